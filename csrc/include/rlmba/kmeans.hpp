#pragma once

#include <cstdint>

#include "rlmba/isa.hpp"
#include "rlmba/view.hpp"

namespace rlmba {

// The order in which a seed's uniform numbers are used, which all backends share. Number 0 chooses
// the first center (it is skipped if that is given). Proposal p uses number 1 + 2 p for its
// position and 2 + 2 p for its acceptance. The draws of an exhausted pool follow, from 1 + 2
// (number of proposals) on.
//
// A block has as many proposals as there are centers at its start, within [block_min, block_max].
struct SeedingPlan {
  std::uint64_t seed;
  std::int64_t first;  // position of the first center, or -1 to draw it uniformly
  std::int64_t block_min;
  std::int64_t block_max;
  std::int64_t scratch_bytes;
};

inline constexpr std::int64_t kOverflow = -2;

template <class T>
inline constexpr std::int64_t kSumLevels = sizeof(T) == sizeof(float) ? 2 : 3;

// kmeans_plusplus: draws indices.size distinct rows (1 <= size <= x.rows) by D^2 sampling. Writes
// the squared distance to the nearest of them to `squared`, and its position in drawn order to
// `labels` [x.rows]. Returns -1, the first row that is not finite, or kOverflow if the sum of
// squared distances overflows.
//
// cluster_sums: adds the rows of x to the sums [levels, k, x.cols] of their labels, 0 <= label < k,
// and the number of rows with each label to counts [k]. Each number is divided into `levels` =
// kSumLevels parts. A part is a multiple of a power of two, which magic[level] determines, so sums
// of parts are exact. They do not depend on the order of the rows, on how the rows are divided into
// calls, or on the number of threads.
//
// row_pairs: the squared distances of each row of x to the rows before it, as in kmeans_plusplus;
// pairs [x.rows, x.rows], of which only the part below the diagonal is written.
#define RLMBA_DECLARE_KMEANS(T)                                                        \
  std::int64_t kmeans_plusplus(MatrixView<const T> x, const SeedingPlan& plan,         \
                               VectorView<std::int64_t> indices, double* squared,      \
                               std::int64_t* labels);                                  \
  void cluster_sums(MatrixView<const T> x, const std::int64_t* labels, std::int64_t k, \
                    const double* magic, double* sums, std::int64_t* counts);          \
  void row_pairs(MatrixView<const T> x, double* pairs);
RLMBA_FOR_EACH_ISA(RLMBA_DECLARE_KMEANS(float) RLMBA_DECLARE_KMEANS(double))
#undef RLMBA_DECLARE_KMEANS

}  // namespace rlmba
