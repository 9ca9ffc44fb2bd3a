#pragma once

#include <cstdint>

#include "rlmba/cuda/matrix.hpp"

namespace rlmba::cuda {

// Bytes of scratch memory, aligned to 16, that top_k needs on the current device.
std::int64_t top_k_scratch(const Matrix& values, std::int64_t k);

// The k largest of values [count] (one contiguous column), largest first, ties by position: their
// values in the computation dtype, and their positions. 1 <= k <= count. The first number that is
// not finite lowers `first_bad`; the outputs are then unspecified, but positions are within bounds.
void top_k(const Matrix& values, std::int64_t k, std::uintptr_t out, std::uintptr_t indices,
           std::uintptr_t scratch, std::uintptr_t first_bad, Stream stream);

}  // namespace rlmba::cuda
