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
  FloatVec inverse;
  double value;

  static Temperature of(double t) {
    const double scaled = kLog2E / t;
    const float hi = static_cast<float>(scaled);
    return {splat(hi), splat(static_cast<float>(scaled - hi)), splat(static_cast<float>(1.0 / t)), t};
  }
};

// Each maps a number to alpha - kBase, which is what fusion weighs: the evidence, with kBase = 1, or
// alpha itself. Where kProbe is set, probe() is 0 for a valid number and NaN for one that the other
// functions would let through unnoticed.
struct IsAlpha {
  static constexpr float kBase = 0.0f;
  static constexpr bool kProbe = true;
  RLMBA_INLINE static FloatVec apply(FloatVec x, const Temperature&) { return x; }
  RLMBA_INLINE static double apply(double x, const Temperature&) { return x > 0 ? x : NAN; }
  RLMBA_INLINE static FloatVec probe(FloatVec x) { return x > 0.0f ? FloatVec{} : splat(NAN); }
};

struct Softplus {
  static constexpr float kBase = 1.0f;
#if defined(RLMBA_ISA_avx512)
  static constexpr bool kProbe = false;
#else
  static constexpr bool kProbe = true;
#endif
  // softplus(z) = max(z, 0) + log(1 + exp(-|z|))
  RLMBA_INLINE static FloatVec apply(FloatVec x, const Temperature& t) {
    const FloatVec u = exp2_scaled<5>(negative_magnitude(x), t.log2e_hi, t.log2e_lo);
    return fma(max(FloatVec{}, x), t.inverse, log1p_unit(u));
  }
  RLMBA_INLINE static double apply(double x, const Temperature& t) {
    const double z = x / t.value;
    return (z > 0 ? z : 0.0) + ::log1p(::exp(-::fabs(z)));
  }
  RLMBA_INLINE static FloatVec probe(FloatVec x) { return x * 0.0f; }
};

struct Exponential {
  static constexpr float kBase = 1.0f;
  static constexpr bool kProbe = Softplus::kProbe;
  RLMBA_INLINE static FloatVec apply(FloatVec x, const Temperature& t) {
    return exp2_scaled<6>(x, t.log2e_hi, t.log2e_lo);
  }
  RLMBA_INLINE static double apply(double x, const Temperature& t) { return ::exp(x / t.value); }
  RLMBA_INLINE static FloatVec probe(FloatVec x) { return x * 0.0f; }
};

struct Rectifier {
  static constexpr float kBase = 1.0f;
  static constexpr bool kProbe = true;
  RLMBA_INLINE static FloatVec apply(FloatVec x, const Temperature& t) {
    return max(FloatVec{}, x) * t.inverse;
  }
  RLMBA_INLINE static double apply(double x, const Temperature& t) {
    return x > 0 ? x / t.value : 0.0;
  }
  RLMBA_INLINE static FloatVec probe(FloatVec x) { return x * 0.0f; }
};

}  // namespace rlmba::RLMBA_ISA
#endif
