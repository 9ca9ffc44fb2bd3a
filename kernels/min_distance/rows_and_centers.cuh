#pragma once

// Shared by the kernels of min_distance: views, and the best center of a row so far.

#include <cstdint>

#include "rlmba/cuda/device.cuh"

namespace rlmba::cuda {

template <class T>
struct Rows {
  const T* data;
  std::int64_t count, columns, stride;

  __device__ const T* row(std::int64_t i) const { return data + i * stride; }
};

template <class W>
struct Centers {
  const W* data;
  std::int64_t count, columns;
  const W *shift, *half_norms, *largest;

  __device__ const W* row(std::int64_t j) const { return data + j * columns; }
};

// The best center so far (the lowest on ties), and the second least score.
template <class W>
struct Best {
  W score, second;
  std::int64_t label;

  __device__ void meet(W other, std::int64_t j) {
    if (other < score || (other == score && j < label)) {
      second = score;
      score = other;
      label = j;
    } else if (other < second) {
      second = other;
    }
  }
  __device__ void merge(const Best& other) {
    meet(other.score, other.label);
    if (other.second < second) second = other.second;
  }
};

template <class T>
__device__ T from_lane(T value, int mask) {
  return __shfl_xor_sync(0xFFFFFFFFu, value, mask);
}

}  // namespace rlmba::cuda
