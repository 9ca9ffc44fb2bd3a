"""Operations on rows that are spread over processes, or that do not fit into memory.

Each process holds a contiguous part of the rows, in order of its rank (:class:`RowBlocks`), and the
processes form a :class:`Group`. All processes call an operation with the same arguments and get the same
result: the positions that the operation of the same name in :mod:`rlmba.kernels` gives for all rows in one
array. This holds exactly, for any number of processes and any size of blocks, because

- distances are computed in float64, in an order that depends on neither (``csrc/include/rlmba/nearest.hpp``);
- ties go to the lower position;
- sums that affect the result are taken over chunks of 4,096 rows, which no two processes share, and then
  over the chunks in order, or they have no rounding error (:mod:`rlmba.kernels.common.exact_sums`);
- random numbers are a function of the seed and their index.
"""

from rlmba.kernels.sharded.d2 import gradient_kmeans_plusplus, kmeans_plusplus
from rlmba.kernels.sharded.group import Alone, Group, agreed
from rlmba.kernels.sharded.k_center import CANDIDATES, k_center
from rlmba.kernels.sharded.kmeans import kmeans
from rlmba.kernels.sharded.moments import moments
from rlmba.kernels.sharded.rows import ALIGNMENT, RowBlocks, boundaries
from rlmba.kernels.sharded.top_k import top_k

__all__ = [
    "ALIGNMENT",
    "CANDIDATES",
    "Alone",
    "Group",
    "RowBlocks",
    "agreed",
    "boundaries",
    "gradient_kmeans_plusplus",
    "k_center",
    "kmeans",
    "kmeans_plusplus",
    "moments",
    "top_k",
]
