import numpy as np

from nas.sensitivity import SensitivityPrior, one_layer_at_a_time
from tests.sample_problems import block_problem


def test_prior_of_an_additive_loss_is_that_loss():
    problem = block_problem(3)
    space = problem.space
    rng = np.random.default_rng(0)
    loss = np.where(np.arange(3) < 2, rng.random((len(space.genes), 3)), 0.0)
    precision = np.array([gene.name.endswith(".precision") for gene in space.genes])

    def accuracy(genomes):
        lost = loss[np.arange(len(space.genes)), genomes] * space.active(genomes) * precision
        return 0.9 - lost.sum(axis=1)

    rows = one_layer_at_a_time(space)
    assert len(rows) == 1 + 3 * 2
    prior = SensitivityPrior(space, rows, accuracy(rows))
    genomes = space.sample(50, rng)
    assert np.allclose(prior(genomes), 0.9 - accuracy(genomes))
