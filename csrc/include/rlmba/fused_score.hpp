#pragma once

#include <cstdint>

#include "rlmba/dirichlet_variance.hpp"
#include "rlmba/isa.hpp"

namespace rlmba {

// Outputs of fused_score: [N], [N, M], [N], [N, M], [N], contiguous.
template <class T>
struct FusedScoreOutput {
  T* score;
  T* uncertainty;
  T* difficulty;
  T* normalized_uncertainty;
  T* normalized_distance;
};

// Eq 4 to 6. `distances` [N] is null or finite; in.weights are required, and every row needs a
// modality that is present. Returns -1 or the first row that dirichlet_variance would name.
//
// score_within: computes Eq 6 for some rows of a pool. The uncertainties in `out` are an input.
// limits [M + 1, 2] contains the smallest and largest uncertainty of each modality over the whole
// pool, and in its last row those of the distances. Of `in`, only modalities, weights and present
// are read. The arithmetic is that of fused_score.
#define RLMBA_DECLARE_FUSED_SCORE                                                                  \
  void score_within(const DirichletInput<float>& in, std::int64_t n, const float* distances,       \
                    double beta, const float* limits, const FusedScoreOutput<float>& out);         \
  void score_within(const DirichletInput<double>& in, std::int64_t n, const double* distances,     \
                    double beta, const double* limits, const FusedScoreOutput<double>& out);       \
  std::int64_t fused_score(const DirichletInput<float>& in, const float* distances, double beta,   \
                           const FusedScoreOutput<float>& out);                                    \
  std::int64_t fused_score(const DirichletInput<double>& in, const double* distances, double beta, \
                           const FusedScoreOutput<double>& out);
RLMBA_FOR_EACH_ISA(RLMBA_DECLARE_FUSED_SCORE)
#undef RLMBA_DECLARE_FUSED_SCORE

}  // namespace rlmba
