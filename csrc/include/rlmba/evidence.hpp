#pragma once

#include <math.h>

#include "rlmba/vector_math.hpp"

// <math.h> and not <cmath>: the float overloads of std:: are inline functions, of which the linker
// could keep the copy of another instruction set (see isa.hpp).
#ifdef RLMBA_ISA
namespace rlmba::RLMBA_ISA {

inline constexpr double kLog2E = 1.4426950408889634074;

// One modality's constants, in float for vectors and double for single values.
struct Temperature {
  FloatVec log2e_hi;
  FloatVec log2e_lo;
  FloatVec half_inverse;
  double value;

  static Temperature of(double t) {
    const double scaled = kLog2E / t;
    const float hi = static_cast<float>(scaled);
    return {splat(hi), splat(static_cast<float>(scaled - hi)), splat(static_cast<float>(0.5 / t)),
            t};
  }
};

// Each maps a number to alpha - kBase, which is what fusion weighs: the evidence, with kBase = 1,
// or alpha itself. An invalid number gives NaN or infinity. If kProbe is set, probe() gives it and
// is 0 for valid numbers.
struct IsAlpha {
  static constexpr float kBase = 0.0f;
  static constexpr bool kProbe = true;
  template <int K>
  RLMBA_INLINE static void apply(const FloatVec (&x)[K], const Temperature&, FloatVec (&e)[K]) {
    for (int k = 0; k < K; ++k) e[k] = x[k];
  }
  RLMBA_INLINE static double apply(double x, const Temperature&) { return x > 0 ? x : NAN; }
  RLMBA_INLINE static FloatVec probe(FloatVec x) { return x > 0.0f ? FloatVec{} : splat(NAN); }
};

struct Softplus {
  static constexpr float kBase = 1.0f;
  static constexpr bool kProbe = false;
  // softplus(z) = max(z, 0) + log(1 + exp(-|z|)), and 2 max(x, 0) = x + |x|, which is NaN for minus
  // infinity.
  template <int K>
  RLMBA_INLINE static void apply(const FloatVec (&x)[K], const Temperature& t, FloatVec (&e)[K]) {
    FloatVec down[K];
    FloatVec u[K];
    for (int k = 0; k < K; ++k) down[k] = negative_magnitude(x[k]);
    exp2_scaled<5>(down, t.log2e_hi, t.log2e_lo, u);
    log1p_unit(u, e);
    for (int k = 0; k < K; ++k) {
      e[k] = fma(x[k] - negative_magnitude(x[k]), t.half_inverse, e[k]);
    }
  }
  RLMBA_INLINE static double apply(double x, const Temperature& t) {
    const double z = x / t.value;
    return (z > 0 ? z : 0.0) + ::log1p(::exp(-::fabs(z)));
  }
};

struct Exponential {
  static constexpr float kBase = 1.0f;
  static constexpr bool kProbe = true;
  template <int K>
  RLMBA_INLINE static void apply(const FloatVec (&x)[K], const Temperature& t, FloatVec (&e)[K]) {
    exp2_scaled<6>(x, t.log2e_hi, t.log2e_lo, e);
  }
  RLMBA_INLINE static double apply(double x, const Temperature& t) { return ::exp(x / t.value); }
  RLMBA_INLINE static FloatVec probe(FloatVec x) { return x * 0.0f; }
};

struct Rectifier {
  static constexpr float kBase = 1.0f;
  static constexpr bool kProbe = false;
  template <int K>
  RLMBA_INLINE static void apply(const FloatVec (&x)[K], const Temperature& t, FloatVec (&e)[K]) {
    for (int k = 0; k < K; ++k) e[k] = (x[k] - negative_magnitude(x[k])) * t.half_inverse;
  }
  RLMBA_INLINE static double apply(double x, const Temperature& t) {
    return x > 0 ? x / t.value : 0.0;
  }
};

}  // namespace rlmba::RLMBA_ISA
#endif
