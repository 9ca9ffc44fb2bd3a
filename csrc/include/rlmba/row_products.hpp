#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "rlmba/amx_product.hpp"
#include "rlmba/nearest.hpp"
#include "rlmba/packed_centers.hpp"
#include "rlmba/parallel.hpp"
#include "rlmba/tile_product.hpp"
#include "rlmba/view.hpp"

#ifdef RLMBA_ISA
namespace rlmba::RLMBA_ISA {

template <class T>
bool finite(T v) {
  return v - v == T(0);
}

template <class T>
bool finite_row(const T* row, std::int64_t dim) {
  for (std::int64_t i = 0; i < dim; ++i) {
    if (!finite(row[i])) return false;
  }
  return true;
}

// A slice of a row minus the shift, with its squared norm.
template <class T>
double shift_row(const T* row, const T* shift, std::int64_t depth, T* out) {
  using V = typename Tile<T>::Vector;
  constexpr int kLanes = Tile<T>::kLanes;
  V acc = V{};
  std::int64_t p = 0;
  for (; p + kLanes <= depth; p += kLanes) {
    const V v = load<V>(row + p) - load<V>(shift + p);
    store(out + p, v);
    acc += v * v;
  }
  T lanes[kLanes];
  store(lanes, acc);
  double sum = 0;
  for (int l = 0; l < kLanes; ++l) sum += static_cast<double>(lanes[l]);
  for (; p < depth; ++p) {
    out[p] = row[p] - shift[p];
    sum += static_cast<double>(out[p]) * static_cast<double>(out[p]);
  }
  return sum;
}

// Products of rows [begin, end) of `source` with every packed center, into work.products. The
// source provides slices of rows: const T* slice(row, column, depth, buffer, &norm2) returns
// `depth` values from `column` on, in place or in `buffer`, and may add their squares to norm2,
// which is kept in work.norms.
template <class E, class Source, class T = typename E::Value>
void multiply_rows(const Source& source, std::int64_t begin, std::int64_t end,
                   const PackedCenters<E>& packed, Workspace<E>& work) {
  const std::int64_t count = end - begin;
  const std::int64_t groups = chunk_count(count, E::kRows);
  for (std::int64_t r = 0; r < count; ++r) work.norms[r] = 0;
  for (std::int64_t column = 0; column < packed.dim(); column += E::kDepth) {
    const std::int64_t depth = min_i64(E::kDepth, packed.dim() - column);
    T buffer[E::kDepth];
    for (std::int64_t r = 0; r < groups * E::kRows; ++r) {
      const T* values = buffer;
      if (r < count) {
        values = source.slice(begin + r, column, depth, buffer, &work.norms[r]);
      } else {
        for (std::int64_t p = 0; p < depth; ++p) buffer[p] = T(0);
      }
      E::pack_row(values, depth, static_cast<int>(r % E::kRows),
                  work.rows + r / E::kRows * E::kGroupBytes);
    }
    for (std::int64_t panel = 0; panel < packed.panels(); ++panel) {
      const unsigned char* b = packed.slice(column, panel, depth);
      for (std::int64_t g = 0; g < groups; ++g) {
        E::multiply(work.rows + g * E::kGroupBytes, b, depth, column > 0,
                    work.products + (g * packed.panels() + panel) * E::kSize);
      }
    }
  }
}

// The least score of a row with all packed centers. `score(panel, lane)` returns a vector of scores
// from column `lane` of a panel on.
template <class E, class Score>
RLMBA_INLINE double least_score(const Score& score, std::int64_t panels) {
  using T = typename E::Value;
  using V = typename Tile<T>::Vector;
  V least = std::numeric_limits<T>::max() - V{};
  for (std::int64_t panel = 0; panel < panels; ++panel) {
    for (int v = 0; v < 2; ++v) {
      const V s = score(panel, v * E::kLanes);
      least = s < least ? s : least;
    }
  }
  double best = static_cast<double>(least[0]);
  for (int l = 1; l < E::kLanes; ++l) {
    if (static_cast<double>(least[l]) < best) best = static_cast<double>(least[l]);
  }
  return best;
}

// Calls each(center) for the first `count` centers whose score is at most `limit`, in rising order,
// until one call returns false.
template <class E, class Score, class Each>
RLMBA_INLINE void visit_at_most(const Score& score, std::int64_t panels, std::int64_t count,
                                double limit, const Each& each) {
  using T = typename E::Value;
  using V = typename Tile<T>::Vector;
  // Rounded up to T, so that the comparison in T misses no center.
  const T ceiling = std::nextafter(static_cast<T>(limit), std::numeric_limits<T>::infinity());
  const V bound = ceiling - V{};
  for (std::int64_t panel = 0; panel < panels; ++panel) {
    const V first = score(panel, 0);
    const V second = score(panel, E::kLanes);
    if (!any_at_most<T>(first < second ? first : second, bound)) continue;
    T scores[E::kCols];
    store(scores, first);
    store(scores + E::kLanes, second);
    for (int l = 0; l < E::kCols; ++l) {
      const std::int64_t j = panel * E::kCols + l;
      if (j < count && scores[l] <= ceiling && !each(j)) return;
    }
  }
}

// Memory for multiplying rows of `dim` values with `centers` centers.
template <class E>
std::int64_t pass_bytes(std::int64_t dim, std::int64_t centers) {
  const std::int64_t panels = chunk_count(centers, E::kCols);
  return PackedCenters<E>::bytes(centers, dim) +
         (panels * E::kCols + dim) * std::int64_t{sizeof(typename E::Value)} +
         max_threads() * Workspace<E>::bytes(panels);
}

template <class E>
std::int64_t centers_per_pass(std::int64_t dim, std::int64_t wanted, std::int64_t bytes) {
  std::int64_t count = min_i64(wanted, kCentersPerPass);
  while (count > E::kCols && pass_bytes<E>(dim, count) > bytes) count = (count + 1) / 2;
  return count;
}

// Chooses the engine of a call: bfloat16 tiles are faster from a few dozen columns on.
template <class T>
bool tiles_serve(std::int64_t dim) {
#ifdef RLMBA_HAVE_AMX
  if constexpr (sizeof(T) == 4) return dim >= 32 && matrix_tiles_allowed() && amx_usable();
#endif
  (void)dim;
  return false;
}

}  // namespace rlmba::RLMBA_ISA
#endif
