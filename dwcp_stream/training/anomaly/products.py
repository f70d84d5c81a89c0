"""Matrix products whose bits do not depend on the batch."""

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training.graph import REGISTER, Graph


def wide_matmul(g: Graph, x: str, weights: NDArray[np.float32]) -> str:
    """Multiply [..., K] by weights [K, N] filled up to whole registers of columns, and cut the result to N.

    A product with few columns is computed by another routine for some batches, whose last bit differs.
    """
    wanted = weights.shape[1]
    filled = np.zeros((len(weights), -(-wanted // REGISTER) * REGISTER), np.float32)
    filled[:, :wanted] = weights
    product = g.op("MatMul", x, g.const(filled))
    return product if filled.shape[1] == wanted else g.slice(product, -1, 0, wanted)
