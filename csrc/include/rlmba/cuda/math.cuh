#pragma once

// Instructions of the special function unit. tests/cuda_emulator has a header of the same name that
// computes them on the CPU.

namespace rlmba::cuda {

// 2^x, within 2 units in the last place; numbers below the smallest normal one become 0.
__device__ __forceinline__ float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// log2(x), off by at most 2^-22, absolutely within [0.5, 2] and relatively elsewhere.
__device__ __forceinline__ float fast_log2(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace rlmba::cuda
