#pragma once

// Evidence functions, and the sums of Eq 4.

#include "rlmba/cuda/device.cuh"
#include "rlmba/cuda/math.cuh"

namespace rlmba::cuda {

constexpr double kLog2E = 1.4426950408889634074;

// A modality's temperature in the form that the functions below use.
struct Scale {
  float high;
  float low;
};

// e1 = sum_c e_c and e2 = sum_{b < c} e_b e_c, sums of nonnegative terms, so nothing cancels even
// for a row that is nearly certain.
template <class W>
struct Sums {
  W e1 = 0;
  W e2 = 0;

  __device__ __forceinline__ void add(W e) {
    e2 = e * e1 + e2;
    e1 += e;
  }
  __device__ __forceinline__ void merge(const Sums& other) {
    e2 = e1 * other.e1 + (e2 + other.e2);
    e1 += other.e1;
  }
  // Sums over lanes that differ in the bits below `lanes`; all of them get the total.
  __device__ __forceinline__ void merge_lanes(int lanes) {
    for (int bit = lanes / 2; bit > 0; bit /= 2) {
      merge({__shfl_xor_sync(0xFFFFFFFFu, e1, bit), __shfl_xor_sync(0xFFFFFFFFu, e2, bit)});
    }
  }
};

__device__ __forceinline__ double mean_variance(double total, double pairs, double classes) {
  return 2 * pairs / (total * total * (total + 1) * classes);
}

// Each maps a number to kUnit (alpha - kBase) in float32. For a number that is not finite, the
// result is NaN or infinite or, if kProbe is set, that of probe(), which is 0 for finite numbers.
// `even` is the parity of the position in a row and known at compile time.
struct Softplus {
  static constexpr float kBase = 1;
  static constexpr double kUnit = 2 * kLog2E;
  static constexpr bool kProbe = false;

  static Scale scale(double temperature) { return {static_cast<float>(kLog2E / temperature), 0}; }

  // With z = x log2(e) / T it is z + |z| + 2 log2(1 + 2^-|z|); z + |z| is NaN for minus infinity.
  // At half precision, a second special function for every number would make that unit the
  // bottleneck instead of memory; a polynomial (error at most 3e-7) for every number would do so
  // with the other units. They therefore alternate.
  __device__ __forceinline__ static float apply(float x, Scale s, bool even) {
    const float z = x * s.high;
    const float u = fast_exp2(-fabsf(z));
    const float rise = z + fabsf(z);
    if (even) return fmaf(2.0f, fast_log2(1.0f + u), rise);
    float p = 0.03105979412794113f;
    p = fmaf(p, u, -0.15911532938480377f);
    p = fmaf(p, u, 0.38858848810195923f);
    p = fmaf(p, u, -0.6518038511276245f);
    p = fmaf(p, u, 0.9471067786216736f);
    p = fmaf(p, u, -1.4411709308624268f);
    p = fmaf(p, u, 2.885335683822632f);
    return fmaf(p, u, rise);
  }
  __device__ __forceinline__ static float probe(float) { return 0; }
};

struct Exponential {
  static constexpr float kBase = 1;
  static constexpr double kUnit = 1;
  static constexpr bool kProbe = true;

  static Scale scale(double temperature) {
    const double exact = kLog2E / temperature;
    const auto high = static_cast<float>(exact);
    return {high, static_cast<float>(exact - high)};
  }

  // A factor corrects the rounding of the exponent.
  __device__ __forceinline__ static float apply(float x, Scale s, bool) {
    const float z = x * s.high;
    const float rest = fmaf(x, s.low, fmaf(x, s.high, -z));
    const float e = fast_exp2(z);
    return e > 0 ? fmaf(e, rest * 0.6931471805599453f, e) : 0.0f;
  }
  __device__ __forceinline__ static float probe(float x) { return x * 0.0f; }
};

struct Rectifier {
  static constexpr float kBase = 1;
  static constexpr double kUnit = 1;
  static constexpr bool kProbe = false;

  static Scale scale(double temperature) { return {static_cast<float>(0.5 / temperature), 0}; }

  __device__ __forceinline__ static float apply(float x, Scale s, bool) {
    return (x + fabsf(x)) * s.high;
  }
  __device__ __forceinline__ static float probe(float) { return 0; }
};

struct IsAlpha {
  static constexpr float kBase = 0;
  static constexpr double kUnit = 1;
  static constexpr bool kProbe = true;

  static Scale scale(double) { return {1, 0}; }

  __device__ __forceinline__ static float apply(float x, Scale, bool) { return x; }
  __device__ __forceinline__ static float probe(float x) { return x > 0 ? 0.0f : NAN; }
};

// alpha - 1, or alpha itself, in float64.
__device__ __forceinline__ double exact_evidence(Evidence kind, double x, double temperature) {
  const double z = x / temperature;
  switch (kind) {
    case Evidence::kExp:
      return exp(z);
    case Evidence::kRelu:
      return z > 0 ? z : 0;
    case Evidence::kSoftplus:
      return (z > 0 ? z : 0) + log1p(exp(-fabs(z)));
    default:
      return x;
  }
}

}  // namespace rlmba::cuda
