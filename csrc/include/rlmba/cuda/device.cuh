#pragma once

// Helpers shared by the kernels: numbers of any width, ordered keys, row flags, block reductions.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "rlmba/cuda/launch.cuh"

namespace rlmba::cuda {

constexpr int kWarp = 32;

// The type that T is computed in.
template <class T>
struct WideOf {
  using type = float;
};
template <>
struct WideOf<double> {
  using type = double;
};
template <class T>
using Wide = typename WideOf<T>::type;

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(__half x) { return __half2float(x); }
__device__ __forceinline__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }

// Calls function(T{}) with the element type that `dtype` names.
template <class Function>
void with_type(DType dtype, const Function& function) {
  switch (dtype) {
    case DType::kFloat16:
      return function(__half{});
    case DType::kBFloat16:
      return function(__nv_bfloat16{});
    case DType::kFloat32:
      return function(float{});
    case DType::kFloat64:
      return function(double{});
  }
}

// Maps numbers to unsigned integers in the same order; no NaN.
__device__ __forceinline__ std::uint32_t ordered_key(float x) {
  const std::uint32_t bits = __float_as_uint(x);
  return bits ^ (bits >> 31 ? 0xFFFFFFFFu : 0x80000000u);
}
__device__ __forceinline__ unsigned long long ordered_key(double x) {
  const auto bits = static_cast<unsigned long long>(__double_as_longlong(x));
  return bits ^ (bits >> 63 ? ~0ull : 1ull << 63);
}
__device__ __forceinline__ float from_ordered_key(std::uint32_t key) {
  return __uint_as_float(key ^ (key >> 31 ? 0x80000000u : 0xFFFFFFFFu));
}
__device__ __forceinline__ double from_ordered_key(unsigned long long key) {
  return __longlong_as_double(static_cast<long long>(key ^ (key >> 63 ? 1ull << 63 : ~0ull)));
}

// Lowers the flag to the first invalid row.
__device__ __forceinline__ void report(long long* first_bad, std::int64_t row) {
  atomicMin(first_bad, static_cast<long long>(row));
}

template <class T>
__device__ __forceinline__ T warp_sum(T value) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xFFFFFFFFu, value, offset);
  }
  return value;
}

// Multiprocessors of the current device.
int multiprocessors();

inline int ceil_div(std::int64_t a, std::int64_t b) { return static_cast<int>((a + b - 1) / b); }

}  // namespace rlmba::cuda
