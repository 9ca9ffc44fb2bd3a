#pragma once

#include "cuda_runtime.h"

// Enough of half precision to read and write it; _Float16 is IEEE binary16 in GCC on x86-64.
struct __half {
  _Float16 value;
};
inline float __half2float(__half x) { return static_cast<float>(x.value); }
inline __half __float2half(float x) { return {static_cast<_Float16>(x)}; }
struct __half2 {
  __half x, y;
};
