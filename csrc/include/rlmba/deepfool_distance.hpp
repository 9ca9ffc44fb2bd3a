#pragma once

#include <cstdint>

#include "rlmba/isa.hpp"
#include "rlmba/view.hpp"

namespace rlmba {

// Norms ||w_k - w_j|| of the rows of a weight matrix [C, D]; each of the C rows of `norms` has
// `stride` >= C numbers, of which the first C are written.
//
// Distances [N] of logits [N, C] to the nearest other class, y = argmax (lowest on ties):
// min over k != y of (f_y - f_k) / norms[y][k], infinite where the norm is 0 unless f_k = f_y; and
// that k (lowest on ties), or -1 where the distance is infinite. Returns -1, or the first row that
// is not finite, in which case the outputs are unspecified. C >= 1.
#define RLMBA_DECLARE_DEEPFOOL                                                                    \
  void pair_norms(MatrixView<const float> weight, MatrixView<double> norms);                      \
  void pair_norms(MatrixView<const double> weight, MatrixView<double> norms);                     \
  std::int64_t deepfool_distance(MatrixView<const float> logits, MatrixView<const double> norms,  \
                                 double* distances, std::int64_t* classes);                       \
  std::int64_t deepfool_distance(MatrixView<const double> logits, MatrixView<const double> norms, \
                                 double* distances, std::int64_t* classes);
RLMBA_FOR_EACH_ISA(RLMBA_DECLARE_DEEPFOOL)
#undef RLMBA_DECLARE_DEEPFOOL

}  // namespace rlmba
