#pragma once

#include <cstdint>

#include "rlmba/isa.hpp"
#include "rlmba/view.hpp"

namespace rlmba {

// The order in which a seed's uniforms are used, part of what a seed means: number 0 places the
// first center (also where it is given); proposal p uses number 1 + 2 p for its place and 2 + 2 p
// for its acceptance; then come the uniform draws of an exhausted pool, from 1 + 2 (proposals made)
// on.
//
// A block holds as many proposals as there are centers already, within [block_min, block_max].
struct SeedingPlan {
  std::uint64_t seed;
  std::int64_t first;  // position of the first center, or -1: drawn uniformly
  std::int64_t block_min;
  std::int64_t block_max;
  std::int64_t scratch_bytes;
};

inline constexpr std::int64_t kOverflow = -2;

// kmeans_plusplus: draws indices.size distinct rows (1 <= size <= x.rows) by the D^2 law and leaves
// the squared distance to the nearest of them in `squared` and its place in drawn order in `labels`
// [x.rows]. Returns -1, the first row that is not finite, or kOverflow where the sum of squared
// distances overflows.
//
// cluster_means: each row of `centers` becomes the mean of the rows of x so labeled, summed in
// double precision in rising order; a center without rows keeps its value. Results do not depend on
// the number of threads.
#define RLMBA_DECLARE_KMEANS(T)                                                   \
  std::int64_t kmeans_plusplus(MatrixView<const T> x, const SeedingPlan& plan,    \
                               VectorView<std::int64_t> indices, double* squared, \
                               std::int64_t* labels);                             \
  void cluster_means(MatrixView<const T> x, const std::int64_t* labels, MatrixView<T> centers);
RLMBA_FOR_EACH_ISA(RLMBA_DECLARE_KMEANS(float) RLMBA_DECLARE_KMEANS(double))
#undef RLMBA_DECLARE_KMEANS

}  // namespace rlmba
