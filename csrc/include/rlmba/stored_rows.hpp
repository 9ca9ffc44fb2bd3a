#pragma once

#include <cstdint>
#include <cstring>

#include "rlmba/amx_product.hpp"
#include "rlmba/scratch.hpp"
#include "rlmba/tile_product.hpp"

#ifdef RLMBA_ISA
namespace rlmba::RLMBA_ISA {

// A matrix P kept for many products with both P and its transpose. `group` gives E::kRows of its
// rows as the left operand of E::multiply; `pack_samples` gives E::kCols of its columns as a right
// operand whose depth runs over rows, so that the product with a left operand of the same depth is
// a part of (..)^T P. `put` writes such a left operand from values that are either kept or zero.
template <class E>
class StoredRows;

template <class T>
class StoredRows<VectorEngine<T>> {
  using E = VectorEngine<T>;

 public:
  // Rows multiplied at once as depth.
  static constexpr std::int64_t kBlock = E::kDepth / E::kRows * E::kRows;
  static constexpr std::int64_t kLeftBytes = E::kGroupBytes;
  static constexpr std::int64_t kRightBytes = E::kCols * E::kDepth * std::int64_t{sizeof(T)};

  StoredRows(T* values, std::int64_t stride, std::int64_t rows, std::int64_t cols)
      : values_(values), stride_(stride), rows_(rows), cols_(cols) {}

  const unsigned char* group(std::int64_t g, std::int64_t column, std::int64_t depth,
                             unsigned char* buffer) const {
    for (int r = 0; r < E::kRows; ++r) {
      const std::int64_t i = g * E::kRows + r;
      E::pack_row(values_ + (i < rows_ ? i : rows_ - 1) * stride_ + column, depth, r, buffer);
    }
    return buffer;
  }

  static std::int64_t sample_depth(std::int64_t count) { return count; }

  void pack_samples(std::int64_t begin, std::int64_t depth, std::int64_t column,
                    unsigned char* right) const {
    T* to = reinterpret_cast<T*>(right);
    const std::int64_t left = cols_ - column;
    const std::int64_t count = left < E::kCols ? left : E::kCols;
    for (std::int64_t i = 0; i < depth; ++i, to += E::kCols) {
      std::memcpy(to, values_ + (begin + i) * stride_ + column,
                  static_cast<std::size_t>(count) * sizeof(T));
      for (std::int64_t p = count; p < E::kCols; ++p) to[p] = T(0);
    }
  }

  // Writes up to 32 values of unit k from sample p on; values whose bit of `kept` is 0 become zero.
  struct Values {
    explicit Values(const T* v) : values(v) {}
    void put(std::uint32_t kept, std::int64_t k, std::int64_t p, std::int64_t depth,
             unsigned char* left) const {
      T* to = reinterpret_cast<T*>(left + k / E::kRows * kLeftBytes) +
              k % E::kRows * Tile<T>::kStride + p;
      const std::int64_t count = depth - p < 32 ? depth - p : 32;
      for (std::int64_t j = 0; j < count; ++j) to[j] = (kept >> j & 1u) != 0 ? values[j] : T(0);
    }
    const T* values;
  };

 private:
  T* values_;
  std::int64_t stride_;
  std::int64_t rows_;
  std::int64_t cols_;
};

#ifdef RLMBA_HAVE_AMX
// The split into bfloat16 is done once and in place, so rows and columns of `values` must be padded
// with zeros to multiples of 32.
template <>
class StoredRows<AmxEngine> {
  using E = AmxEngine;

 public:
  static constexpr std::int64_t kBlock = E::kDepth;
  static constexpr std::int64_t kLeftBytes = E::kGroupBytes;
  static constexpr std::int64_t kRightBytes = E::kCols * E::kDepth * 4;

  StoredRows(float* values, std::int64_t stride, std::int64_t rows, std::int64_t)
      : bytes_(reinterpret_cast<unsigned char*>(values)), group_bytes_(E::kRows * stride * 4) {
    const std::int64_t groups = (rows + E::kRows - 1) / E::kRows;
    const std::int64_t threads = max_threads();
    Scratch<float> copies(threads * E::kRows * stride);
    parallel_for(groups, 1, threads, [&](std::int64_t g, std::int64_t, std::int64_t thread) {
      float* copy = copies.data() + thread * E::kRows * stride;
      unsigned char* to = bytes_ + g * group_bytes_;
      std::memcpy(copy, to, static_cast<std::size_t>(group_bytes_));
      for (std::int64_t column = 0; column < stride; column += E::kDepth) {
        const std::int64_t depth = stride - column < E::kDepth ? stride - column : E::kDepth;
        for (int r = 0; r < E::kRows; ++r) {
          E::pack_row(copy + r * stride + column, depth, r, to + column * E::kRows * 4);
        }
      }
    });
  }

  const unsigned char* group(std::int64_t g, std::int64_t column, std::int64_t,
                             unsigned char*) const {
    return bytes_ + g * group_bytes_ + column * E::kRows * 4;
  }

  static std::int64_t sample_depth(std::int64_t count) { return E::padded(count); }

  // A row of a tile holds 32 columns of one sample; one of a right operand, 16 columns of two.
  void pack_samples(std::int64_t begin, std::int64_t depth, std::int64_t column,
                    unsigned char* right) const {
    alignas(64) std::uint16_t first[32];
    alignas(64) std::uint16_t second[32];
    for (int j = 0; j < 32; ++j) {
      first[j] = static_cast<std::uint16_t>(j / 2 + j % 2 * 32);
      second[j] = static_cast<std::uint16_t>(first[j] + 16);
    }
    const __m512i low_columns = _mm512_load_si512(first);
    const __m512i high_columns = _mm512_load_si512(second);
    const std::int64_t slice = column / E::kDepth * E::kDepth;
    const std::int64_t width = group_bytes_ / (E::kRows * 4);
    const std::int64_t slice_depth = width - slice < E::kDepth ? width - slice : E::kDepth;
    for (std::int64_t p = 0; p < depth; p += 32) {
      const unsigned char* tiles = bytes_ + (begin + p) / E::kRows * group_bytes_ +
                                   slice * E::kRows * 4 + (column - slice) * 64;
      for (int part = 0; part < 2; ++part) {
        unsigned char* to = right + p * 64 + part * 64 * depth;
        for (int pair = 0; pair < 16; ++pair) {
          const unsigned char* from = tiles + pair * 128;
          const __m512i a = _mm512_loadu_si512(from);
          const __m512i b = _mm512_loadu_si512(from + 64);
          _mm512_storeu_si512(to + pair * 64, _mm512_permutex2var_epi16(a, low_columns, b));
          _mm512_storeu_si512(to + 1024 + pair * 64, _mm512_permutex2var_epi16(a, high_columns, b));
        }
        tiles += 64 * slice_depth;
      }
    }
  }

  struct Values {
    explicit Values(const float* v) {
      for (int j = 0; j < 32; ++j) E::split(v[j], high + j, low + j);
    }
    void put(std::uint32_t kept, std::int64_t k, std::int64_t p, std::int64_t depth,
             unsigned char* left) const {
      unsigned char* to =
          left + k / E::kRows * kLeftBytes + p * 64 + k % 32 / 16 * 1024 + k % 16 * 64;
      _mm512_storeu_si512(to, _mm512_maskz_loadu_epi16(kept, high));
      _mm512_storeu_si512(to + 64 * depth, _mm512_maskz_loadu_epi16(kept, low));
    }
    alignas(64) std::uint16_t high[32];
    alignas(64) std::uint16_t low[32];
  };

 private:
  unsigned char* bytes_;
  std::int64_t group_bytes_;
};
#endif

}  // namespace rlmba::RLMBA_ISA
#endif
