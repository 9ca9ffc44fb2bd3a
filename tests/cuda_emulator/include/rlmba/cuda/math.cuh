#pragma once

// In the place of csrc/include/rlmba/cuda/math.cuh.

#include <cuda_runtime.h>

namespace rlmba::cuda {

inline float fast_exp2(float x) { return std::exp2(x); }
inline float fast_log2(float x) { return std::log2(x); }

}  // namespace rlmba::cuda
