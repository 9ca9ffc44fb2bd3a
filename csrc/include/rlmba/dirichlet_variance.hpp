#pragma once

#include <cstdint>

#include "rlmba/isa.hpp"
#include "rlmba/view.hpp"

namespace rlmba {

// How numbers become Dirichlet parameters: they are alpha, or alpha = 1 + evidence(x /
// temperature).
enum class Evidence { alpha = 0, softplus = 1, exp = 2, relu = 3 };

// Rows of M modalities, all [N, C].
template <class T>
struct DirichletInput {
  const MatrixView<const T>* x;
  std::int64_t modalities;
  Evidence evidence;
  const double* temperatures;   // [M], not read for Evidence::alpha
  const double* weights;        // row i at weights + i * weight_stride; if null, no fused alpha
  std::int64_t weight_stride;   // 0 when all rows share one
  const std::uint8_t* present;  // [N, M] or null; an absent modality is not read and has weight 0,
                                // the rest are renormalized (uniform if all of theirs are 0)
};

// modality [N, M] (or null): mean_c Var[p_c] of alpha_m; 0 where absent. fused [N] (or null): the
// same of alpha_f = 1 + sum_m w_m (alpha_m - 1). C >= 1. Returns -1, or the first row that holds a
// number that is not finite or, for Evidence::alpha, not positive; outputs are then unspecified.
#define RLMBA_DECLARE_DIRICHLET_VARIANCE                                                           \
  std::int64_t dirichlet_variance(const DirichletInput<float>& in, float* modality, float* fused); \
  std::int64_t dirichlet_variance(const DirichletInput<double>& in, double* modality,              \
                                  double* fused);
RLMBA_FOR_EACH_ISA(RLMBA_DECLARE_DIRICHLET_VARIANCE)
#undef RLMBA_DECLARE_DIRICHLET_VARIANCE

}  // namespace rlmba
