"""Tokenizers: a checkpoint's, or one whose vocabulary is learned from texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

PAD, UNKNOWN, CLASSIFY, SEPARATE = "[PAD]", "[UNK]", "[CLS]", "[SEP]"


def read_tokenizer(folder: Path, words: bool = False) -> PreTrainedTokenizerBase:
    """A checkpoint's tokenizer, without what a classifier has no use for: its code and templates.

    words: whether it is to be given words one by one.

    Raises ValueError for a tokenizer that only code of the checkpoint could make.
    """
    try:
        # False, not the default: that asks at the terminal whether to run the code.
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        if words and getattr(tokenizer, "add_prefix_space", None) is False:
            tokenizer = AutoTokenizer.from_pretrained(
                folder, trust_remote_code=False, add_prefix_space=True
            )
    except Exception as error:  # of many classes: a missing package, keys of a file, code to run
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"model.checkpoint: the tokenizer in {folder} cannot be opened ({lines[0]}); install "
            "what it asks for, or save it as one of transformers' own (tokenizer.json): code that "
            "comes with a checkpoint is never run"
        ) from error
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise ValueError(  # transformers makes one that knows no word where files are missing
            f"model.checkpoint: {folder} holds no vocabulary of a tokenizer; lay the files of the "
            "checkpoint's own beside it (tokenizer.json, vocab.txt or what its class reads)"
        )
    limit = tokenizer.model_max_length
    if not isinstance(limit, int | float) or limit < 1:
        raise ValueError(
            f"model.checkpoint: model_max_length in {folder}/tokenizer_config.json is {limit!r}, "
            "but must be a number of tokens; give one, or leave it out"
        )
    _give_padding(tokenizer, folder)
    tokenizer.chat_template = None  # its parts would name the files that saving writes
    tokenizer.init_kwargs.pop("auto_map", None)
    return tokenizer


def lowercase_first(tokenizer: PreTrainedTokenizerBase) -> None:
    """Have a tokenizer lowercase texts before all else that it does; it is saved so.

    Raises ValueError for one that is not a fast one.
    """
    if not tokenizer.is_fast:
        raise ValueError(
            "model.checkpoint: do_lower_case is set for sentence-transformers, which only a fast "
            "tokenizer (tokenizer.json) can do itself; save it as one, or take that out if it "
            "lowercases anyway"
        )
    backend = tokenizer.backend_tokenizer
    lowercase, own = normalizers.Lowercase(), backend.normalizer
    backend.normalizer = lowercase if own is None else normalizers.Sequence([lowercase, own])


def _give_padding(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Pad with another special token if there is none to pad with: what is padded is masked.

    Raises ValueError if there is no special token at all.
    """
    if tokenizer.pad_token_id is not None:
        return
    vocabulary = tokenizer.get_vocab()
    given = (tokenizer.eos_token, tokenizer.sep_token, tokenizer.unk_token)
    usable = [token for token in (PAD, "<pad>", *given) if token in vocabulary]
    if not usable:
        raise ValueError(
            f"model.checkpoint: the tokenizer in {folder} has no token to pad with; name one of "
            "its vocabulary as pad_token in tokenizer_config.json"
        )
    tokenizer.pad_token = usable[0]


def _word_pieces(vocabulary: dict[str, int] | None = None) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _learned_vocabulary(
    texts: Sequence[str], vocab_size: int, first: Sequence[str]
) -> dict[str, int]:
    """Pieces and their ids. The trainer numbers the letters inside words in the random order of a
    hash table, and breaks ties by number; so they are numbered beforehand, as special tokens."""
    learner = _word_pieces()
    letters = sorted(
        {letter for text in texts for letter in learner.normalizer.normalize_str(text)}
    )
    inside = [f"##{letter}" for letter in letters if not letter.isspace()]
    special = [*first, *inside]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=special, show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    vocabulary: dict[str, int] = learner.get_vocab()
    return vocabulary


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, inputs: Sequence[str], padding: int | None = None
) -> PreTrainedTokenizerBase:
    """Learn a lower-case WordPiece vocabulary of at most `vocab_size` entries.

    padding: the id of what texts are padded with (0 or 1), where the network must know it. The same
    texts give the same ids, in every process: a run that continues needs that.
    """
    special = [UNKNOWN, CLASSIFY, SEPARATE]
    special.insert(padding or 0, PAD)
    tokenizer = _word_pieces(_learned_vocabulary(list(texts), vocab_size, special))
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{CLASSIFY} $A {SEPARATE}",
        pair=f"{CLASSIFY} $A {SEPARATE} $B:1 {SEPARATE}:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in (CLASSIFY, SEPARATE)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        cls_token=CLASSIFY,
        sep_token=SEPARATE,
        model_input_names=list(inputs),
    )
