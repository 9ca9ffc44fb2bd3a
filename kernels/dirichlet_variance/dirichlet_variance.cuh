#pragma once

#include <cstdint>
#include <vector>

#include "rlmba/cuda/matrix.hpp"

namespace rlmba::cuda {

// The numbers that kernels/common/evidential.py gives them.
enum class Evidence : int { kAlpha = 0, kSoftplus = 1, kExp = 2, kRelu = 3 };

inline constexpr int kMaxModalities = 64;

// Rows [first_row, first_row + N) of a pool: what Eq 3 and Eq 4 take of M modalities, and where
// their results go. Addresses that are 0 are left out. W is float64 for input of float64, else
// float32.
struct DirichletPass {
  std::vector<Matrix> x;  // M of [N, C], of one dtype
  Evidence evidence = Evidence::kSoftplus;
  std::vector<double> temperatures;  // M
  std::vector<double> weights;       // M, where row_weights is 0
  std::uintptr_t row_weights = 0;    // W [N, M]
  std::uintptr_t present = 0;        // bytes [N, M]: modalities that are absent are not read
  std::int64_t first_row = 0;
  std::uintptr_t modality = 0;  // W [N, M]
  std::uintptr_t fused = 0;     // W [N]
  std::uintptr_t extremes = 0;  // ordered keys: lowest [M], highest [M] of the modalities' results
  std::uintptr_t unfinished = 0;  // int32, zero on entry
  std::uintptr_t first_bad = 0;   // lowered to the first row with a number that is not valid
};

void dirichlet_variance(const DirichletPass& pass, Stream stream);

// Rows that float32 is not enough for, whose results are NaN so far, or all of them; in float64.
void careful_rows(const DirichletPass& pass, bool all, Stream stream);

}  // namespace rlmba::cuda
