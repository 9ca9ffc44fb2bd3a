#pragma once

#include <cstdint>

#include "rlmba/isa.hpp"
#include "rlmba/view.hpp"

namespace rlmba {

struct KCenterPlan {
  std::int64_t first;          // position of the first pick, or -1 for the rule below
  std::int64_t scratch_bytes;  // bound on the memory for copies of rows and packed centers
};

inline constexpr std::int64_t kKCenterOverflow = -2;

// k_center: greedy k-center (Gonzalez). Picks indices.size distinct rows of x, each the one whose
// squared distance to the nearest center so far is largest, ties to the lowest position; the rows
// of `labeled` are centers from the start. Without centers and plan.first, the first pick is the
// row nearest to the mean of the rows. Once all distances are 0, the lowest positions not yet
// picked follow. `squared` [indices.size] holds the squared distance of each pick to its nearest
// center before it was picked; for the very first center it is the radius after this pick. `radius`
// is the largest squared distance of a row to its nearest center after the last pick, infinite
// without a center. 0 <= indices.size <= x.rows; plan.first is used only if indices.size > 0.
// Returns -1, the position of the first row of x that is not finite, or kKCenterOverflow. Rows of
// `labeled` must be finite. In addition to 16 bytes per row of x, memory is at most
// max(scratch_bytes, k_center_scratch) and a few MiB; results depend on neither it nor the number
// of threads.
//
// Distances are those of update_nearest (nearest.hpp).
//
// pick_farthest: the same greedy picks among candidates x, in ascending order of position, whose
// squared distances to the nearest center are known. Picks while a candidate is farther than the
// floor: than floor_squared, or equally far and before row floor_row. Writes the picked rows of x
// and their squared distances when they were picked; returns their number, at most picks.size.
// column_sums: sums of the columns of x, as for the mean of k_center if x starts at a multiple of
// kReductionRows rows.
// nearest_to: the row nearest to a mean, and its squared distance to it; x.rows >= 1.
#define RLMBA_DECLARE_K_CENTER(T)                                                                \
  std::int64_t k_center(MatrixView<const T> x, MatrixView<const T> labeled,                      \
                        const KCenterPlan& plan, VectorView<std::int64_t> indices,               \
                        double* squared, double* radius);                                        \
  std::int64_t k_center_scratch(const T* tag, std::int64_t dim);                                 \
  std::int64_t pick_farthest(MatrixView<const T> x, const double* nearest, double floor_squared, \
                             std::int64_t floor_row, VectorView<std::int64_t> picks,             \
                             double* squared);                                                   \
  void column_sums(MatrixView<const T> x, double* sums);                                         \
  std::int64_t nearest_to(MatrixView<const T> x, const double* mean, double* squared);
RLMBA_FOR_EACH_ISA(RLMBA_DECLARE_K_CENTER(float) RLMBA_DECLARE_K_CENTER(double))
#undef RLMBA_DECLARE_K_CENTER

}  // namespace rlmba
