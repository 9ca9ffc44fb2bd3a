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
#define RLMBA_DECLARE_GRADIENT(T)                                                           \
  std::int64_t gradient_kmeans_plusplus(const OuterRows<T>& x, const SeedingPlan& plan,     \
                                        VectorView<std::int64_t> indices, double* at_draw); \
  std::int64_t gradient_scratch(const T* tag, std::int64_t classes, std::int64_t width);
RLMBA_FOR_EACH_ISA(RLMBA_DECLARE_GRADIENT(float) RLMBA_DECLARE_GRADIENT(double))
#undef RLMBA_DECLARE_GRADIENT

}  // namespace rlmba
