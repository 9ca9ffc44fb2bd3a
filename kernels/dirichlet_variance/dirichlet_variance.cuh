#pragma once

#include <cstdint>
#include <vector>

#include "rlmba/cuda/matrix.hpp"

namespace rlmba::cuda {

// The numbers must match kernels/common/evidential.py.
enum class Evidence : int { kAlpha = 0, kSoftplus = 1, kExp = 2, kRelu = 3 };

inline constexpr int kMaxModalities = 64;

// Inputs and outputs of Eq 3 and Eq 4 for rows [first_row, first_row + N) of a pool with M
// modalities. An address of 0 means absent. W is float64 for float64 input, otherwise float32.
struct DirichletPass {
  std::vector<Matrix> x;  // M of [N, C], of one dtype
  Evidence evidence = Evidence::kSoftplus;
  std::vector<double> temperatures;  // M
  std::vector<double> weights;       // M, if row_weights is 0
  std::uintptr_t row_weights = 0;    // W [N, M]
  std::uintptr_t present = 0;        // bytes [N, M]: missing modalities are not read
  std::int64_t first_row = 0;
  std::uintptr_t modality = 0;  // W [N, M]
  std::uintptr_t fused = 0;     // W [N]
  std::uintptr_t extremes = 0;  // ordered keys: lowest [M], highest [M] of the modalities' results
  std::uintptr_t unfinished = 0;  // int32, zero on entry
  std::uintptr_t first_bad = 0;   // lowered to the first row with an invalid number
};

void dirichlet_variance(const DirichletPass& pass, Stream stream);

// Computes in float64 the rows whose results are NaN, because float32 is not sufficient, or all
// rows.
void careful_rows(const DirichletPass& pass, bool all, Stream stream);

}  // namespace rlmba::cuda
