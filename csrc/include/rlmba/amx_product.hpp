#pragma once

#include <cstdint>
#include <cstring>

#include "rlmba/tile_product.hpp"

#if defined(RLMBA_ISA_avx512) && defined(__linux__) && defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RLMBA_HAVE_AMX 1
#define RLMBA_AMX __attribute__((target("amx-tile,amx-bf16")))

namespace rlmba::RLMBA_ISA {

// Whether the processor has bfloat16 matrix tiles and the system lets this process use them.
inline bool amx_usable() {
  static const bool usable = [] {
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
    constexpr unsigned kBf16 = 1u << 22;
    constexpr unsigned kTile = 1u << 24;
    if ((d & kBf16) == 0 || (d & kTile) == 0) return false;
    constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
    constexpr long kTileData = 18;
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return usable;
}

// The product of float matrices on bfloat16 tiles. A value is split into the sum of two bfloat16
// values, high and low. The error of high * high + high * low + low * high is about 2^-16, as good
// as the worst case of plain float sums, at several times their speed.
struct AmxEngine {
  using Value = float;
  static constexpr int kRows = 32;
  static constexpr int kCols = 32;
  static constexpr int kLanes = Tile<float>::kLanes;
  static constexpr std::int64_t kDepth = 512;
  static constexpr std::int64_t kSize = static_cast<std::int64_t>(kRows) * kCols;
  static constexpr std::int64_t kGroups = 4;
  static constexpr std::int64_t kGroupBytes = kRows * kDepth * 4;
  static constexpr double kTiny = 0x1.0p-124;  // tiles flush subnormal numbers to zero

  static constexpr std::int64_t padded(std::int64_t depth) { return (depth + 31) / 32 * 32; }

  // The error of splitting is 3 * 2^-18 = 192 units; a tile instruction sums 32 products from zero
  // and adds the sum to the result, three times for every 32 columns.
  static double roundings(std::int64_t dim) {
    return 192 + 8 + 32 + 3 * static_cast<double>(padded(dim) / 32);
  }

  // GCC's tile intrinsics do not declare that they read memory, so stores before them could be
  // dropped.
  RLMBA_INLINE static void barrier() { asm volatile("" ::: "memory"); }

  class Session {
   public:
    RLMBA_AMX Session() {
      struct {
        std::uint8_t palette = 1;
        std::uint8_t start_row = 0;
        std::uint8_t reserved[14] = {};
        std::uint16_t column_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
        std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
      } config;
      static_assert(sizeof(config) == 64);
      barrier();
      _tile_loadconfig(&config);
    }
    RLMBA_AMX ~Session() { _tile_release(); }
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
  };

  // Rounds to the nearest bfloat16, ties to even; a NaN may become infinite, which callers detect
  // by the norm.
  RLMBA_INLINE static void split(float value, std::uint16_t* high, std::uint16_t* low) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, 4);
    bits = (bits + 0x7FFFu + ((bits >> 16) & 1u)) & 0xFFFF0000u;
    *high = static_cast<std::uint16_t>(bits >> 16);
    float near;
    std::memcpy(&near, &bits, 4);
    const float rest = value - near;
    std::memcpy(&bits, &rest, 4);
    *low = static_cast<std::uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
  }

  // Slices are laid out as tiles of 1 KiB: all high parts, two tiles for every 32 columns, then all
  // low parts. In a tile of rows, each holds 32 columns; in one of centers, pairs of columns are
  // rows.
  static void pack_row(const float* values, std::int64_t depth, int r, unsigned char* group) {
    for (std::int64_t p = 0; p < padded(depth); p += 32) {
      std::uint16_t high[32];
      std::uint16_t low[32];
      for (int i = 0; i < 32; ++i) split(p + i < depth ? values[p + i] : 0.0f, high + i, low + i);
      unsigned char* out = group + p * 64 + r / 16 * 1024 + r % 16 * 64;
      std::memcpy(out, high, 64);
      std::memcpy(out + 64 * padded(depth), low, 64);
    }
  }

  static void pack_center(const float* values, std::int64_t depth, int c, unsigned char* panel) {
    auto* tiles = reinterpret_cast<std::uint16_t*>(panel);
    for (std::int64_t p = 0; p < padded(depth); ++p) {
      const std::int64_t at = p / 32 * 1024 + c / 16 * 512 + p % 32 / 2 * 32 + c % 16 * 2 + p % 2;
      split(p < depth ? values[p] : 0.0f, tiles + at, tiles + at + 32 * padded(depth));
    }
  }

  RLMBA_AMX static void multiply(const unsigned char* a, const unsigned char* b, std::int64_t depth,
                                 bool add, float* c) {
    constexpr int kRowBytes = kCols * static_cast<int>(sizeof(float));
    barrier();
    if (add) {
      _tile_loadd(0, c, kRowBytes);
      _tile_loadd(1, c + 16, kRowBytes);
      _tile_loadd(2, c + 16 * kCols, kRowBytes);
      _tile_loadd(3, c + 16 * kCols + 16, kRowBytes);
    } else {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    }
    const std::int64_t low = 64 * padded(depth);
    for (std::int64_t p = 0; p < low; p += 2048) {
      _tile_loadd(4, a + p, 64);
      _tile_loadd(5, a + p + 1024, 64);
      _tile_loadd(6, b + p, 64);
      _tile_loadd(7, b + p + 1024, 64);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
      _tile_loadd(6, b + low + p, 64);
      _tile_loadd(7, b + low + p + 1024, 64);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
      _tile_loadd(4, a + low + p, 64);
      _tile_loadd(5, a + low + p + 1024, 64);
      _tile_loadd(6, b + p, 64);
      _tile_loadd(7, b + p + 1024, 64);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, kRowBytes);
    _tile_stored(1, c + 16, kRowBytes);
    _tile_stored(2, c + 16 * kCols, kRowBytes);
    _tile_stored(3, c + 16 * kCols + 16, kRowBytes);
  }
};

}  // namespace rlmba::RLMBA_ISA

#endif
