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
// or alpha itself. A number that is not valid gives NaN or infinity: where kProbe is set, by
// probe(), which is 0 for all others.
struct IsAlpha {
  static constexpr float kBase = 0.0f;
  static constexpr bool kProbe = true;
  RLMBA_INLINE static FloatVec apply(FloatVec x, const Temperature&) { return x; }
  RLMBA_INLINE static double apply(double x, const Temperature&) { return x > 0 ? x : NAN; }
  RLMBA_INLINE static FloatVec probe(FloatVec x) { return x > 0.0f ? FloatVec{} : splat(NAN); }
};

struct Softplus {
  static constexpr float kBase = 1.0f;
  static constexpr bool kProbe = false;
  // softplus(z) = max(z, 0) + log(1 + exp(-|z|)), and 2 max(x, 0) = x + |x|, which is NaN for minus
  // infinity.
  RLMBA_INLINE static FloatVec apply(FloatVec x, const Temperature& t) {
    const FloatVec down = negative_magnitude(x);
    const FloatVec u = exp2_scaled<5>(down, t.log2e_hi, t.log2e_lo);
    return fma(x - down, t.half_inverse, log1p_unit(u));
  }
  RLMBA_INLINE static double apply(double x, const Temperature& t) {
    const double z = x / t.value;
    return (z > 0 ? z : 0.0) + ::log1p(::exp(-::fabs(z)));
  }
};

struct Exponential {
  static constexpr float kBase = 1.0f;
  static constexpr bool kProbe = true;
  RLMBA_INLINE static FloatVec apply(FloatVec x, const Temperature& t) {
    return exp2_scaled<6>(x, t.log2e_hi, t.log2e_lo);
  }
  RLMBA_INLINE static double apply(double x, const Temperature& t) { return ::exp(x / t.value); }
  RLMBA_INLINE static FloatVec probe(FloatVec x) { return x * 0.0f; }
};

struct Rectifier {
  static constexpr float kBase = 1.0f;
  static constexpr bool kProbe = false;
  RLMBA_INLINE static FloatVec apply(FloatVec x, const Temperature& t) {
    return (x - negative_magnitude(x)) * t.half_inverse;
  }
  RLMBA_INLINE static double apply(double x, const Temperature& t) {
    return x > 0 ? x / t.value : 0.0;
  }
};

}  // namespace rlmba::RLMBA_ISA
#endif
