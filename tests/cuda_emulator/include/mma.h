#pragma once

// Tensor-core products of warps. A fragment holds its whole tile in every thread, so loads,
// products and stores are done by all of them alike. bfloat16 operands are multiplied exactly and
// added in float; tf32 operands have been rounded by __float_to_tf32 before.

#include <type_traits>

#include "cuda_bf16.h"
#include "cuda_fp16.h"

namespace nvcuda::wmma {

struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
namespace precision {
struct tf32 {};
}  // namespace precision
enum layout_t { mem_row_major, mem_col_major };

// To nearest, ties away from zero, as cvt.rna does.
inline float __float_to_tf32(float x) {
  if (!std::isfinite(x)) return x;
  return std::bit_cast<float>((std::bit_cast<std::uint32_t>(x) + 0x1000u) & 0xFFFFE000u);
}

inline float emulated_value(float x) { return x; }
inline float emulated_value(__half x) { return __half2float(x); }
inline float emulated_value(__nv_bfloat16 x) { return __bfloat162float(x); }

template <class Use, int kM, int kN, int kK, class T, class Layout = void>
struct fragment {
  static constexpr int kRows = std::is_same_v<Use, matrix_b> ? kK : kM;
  static constexpr int kColumns = std::is_same_v<Use, matrix_a> ? kK : kN;
  float tile[kRows][kColumns];
};

template <class F>
void fill_fragment(F& f, float value) {
  for (auto& row : f.tile) {
    for (float& x : row) x = value;
  }
}

inline void emulated_alignment(const void* p) {
  if (reinterpret_cast<std::uintptr_t>(p) % 32 != 0) {
    std::fprintf(stderr,
                 "emulated CUDA: a fragment is read or written at no multiple of 32 bytes\n");
    std::abort();
  }
}

template <class Use, int kM, int kN, int kK, class T, class Layout, class E>
void load_matrix_sync(fragment<Use, kM, kN, kK, T, Layout>& f, const E* p, unsigned ld) {
  emulated_alignment(p);
  for (int i = 0; i < f.kRows; ++i) {
    for (int j = 0; j < f.kColumns; ++j) {
      const bool rows = std::is_same_v<Layout, row_major>;
      f.tile[i][j] = emulated_value(p[rows ? i * ld + j : j * ld + i]);
    }
  }
}

template <class F>
void store_matrix_sync(float* p, const F& f, unsigned ld, layout_t layout) {
  emulated_alignment(p);
  for (int i = 0; i < f.kRows; ++i) {
    for (int j = 0; j < f.kColumns; ++j) {
      p[layout == mem_row_major ? i * ld + j : j * ld + i] = f.tile[i][j];
    }
  }
}

template <class D, class A, class B, class C>
void mma_sync(D& d, const A& a, const B& b, const C& c) {
  for (int i = 0; i < d.kRows; ++i) {
    for (int j = 0; j < d.kColumns; ++j) {
      float sum = c.tile[i][j];
      for (int p = 0; p < a.kColumns; ++p) sum += a.tile[i][p] * b.tile[p][j];
      d.tile[i][j] = sum;
    }
  }
}

}  // namespace nvcuda::wmma
