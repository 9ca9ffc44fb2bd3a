#pragma once

#include <cstdint>

#include "rlmba/isa.hpp"
#include "rlmba/kmeans.hpp"
#include "rlmba/view.hpp"

namespace rlmba {

// Rows x_i = a_i (x) z_i, the outer product of a residual and a feature row, which is never
// materialized; z_i is the concatenation of row i of every part, part m times scales(i, m) (rounded
// to T).
template <class T>
struct OuterRows {
  MatrixView<const T> residuals;     // [N, C]
  const MatrixView<const T>* parts;  // [count] of [N, d_m]
  std::int64_t count;
  MatrixView<const T> scales;  // [N, count]; data null: every scale is 1
};

// gradient_kmeans_plusplus: draws indices.size distinct rows (1 <= size <= N) by D^2 sampling. The
// first is plan.first or, if that is -1, the row with the largest norm (the lowest on ties).
// at_draw [indices.size] receives the D^2 of each row when it was drawn; for the first, its squared
// norm. Returns -1, the first row that is not finite, or kOverflow.
//
// Memory in addition to the input: 24 bytes per row, copies of plan.block_max rows, and packed rows
// and products of at most max(plan.scratch_bytes, gradient_scratch). The result does not depend on
// it.
// The parts of it, for rows that are elsewhere:
//   gradient_norms   squared norms of the rows; returns as gradient_kmeans_plusplus
//   gradient_rows    copies some rows: residuals [n, C] and features [n, D], scaled and joined
//   gradient_update  lowers `squared` [N] to the squared distances to centers, which are rows
//   without
//                    scales; returns as gradient_kmeans_plusplus
//   gradient_pairs   the squared distances of each row to the rows before it; pairs [N, N], of
//   which
//                    only the part below the diagonal is written
#define RLMBA_DECLARE_GRADIENT(T)                                                              \
  std::int64_t gradient_kmeans_plusplus(const OuterRows<T>& x, const SeedingPlan& plan,        \
                                        VectorView<std::int64_t> indices, double* at_draw);    \
  std::int64_t gradient_scratch(const T* tag, std::int64_t classes, std::int64_t width);       \
  std::int64_t gradient_norms(const OuterRows<T>& x, double* squared);                         \
  void gradient_rows(const OuterRows<T>& x, VectorView<const std::int64_t> rows, T* residuals, \
                     T* features);                                                             \
  std::int64_t gradient_update(const OuterRows<T>& x, const OuterRows<T>& centers,             \
                               std::int64_t scratch_bytes, double* squared);                   \
  void gradient_pairs(const OuterRows<T>& x, double* pairs);
RLMBA_FOR_EACH_ISA(RLMBA_DECLARE_GRADIENT(float) RLMBA_DECLARE_GRADIENT(double))
#undef RLMBA_DECLARE_GRADIENT

}  // namespace rlmba
