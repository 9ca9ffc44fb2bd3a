#pragma once

#include <cstdint>
#include <vector>

#include "rlmba/cuda/matrix.hpp"

namespace rlmba::cuda {

// Lowers keys[c] and raises keys[M + c], ordered keys of x's dtype, by column c of x [N, M], which
// is contiguous, of float32 or float64. `mask`, bytes of x's shape or 0, tells which entries are
// used. A number that is not finite lowers `first_bad` to its row.
void column_extremes(const Matrix& x, std::uintptr_t mask, std::uintptr_t keys,
                     std::uintptr_t first_bad, Stream stream);

// Eq 6 of given uncertainties and distances, all of type W and contiguous; 0 means absent.
struct ScorePass {
  Matrix uncertainty;            // [N, M]
  std::uintptr_t distances = 0;  // [N]
  std::uintptr_t present = 0;    // bytes [N, M]
  std::vector<double> weights;   // M
  double beta = 1;
  std::uintptr_t keys = 0;           // of the uncertainties, as column_extremes leaves them
  std::uintptr_t distance_keys = 0;  // of the distances
  std::uintptr_t score = 0;          // [N]
  std::uintptr_t unit = 0;           // [N, M]
  std::uintptr_t distance_unit = 0;  // [N]
};

void normalized_score(const ScorePass& pass, Stream stream);

}  // namespace rlmba::cuda
