#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "rlmba/parallel.hpp"
#include "rlmba/scratch.hpp"
#include "rlmba/squared_distance.hpp"
#include "rlmba/tile_product.hpp"
#include "rlmba/view.hpp"

#ifdef RLMBA_ISA
namespace rlmba::RLMBA_ISA {

// A row and its squared distance to the nearest center. The farther row is the better candidate;
// ties go to the lower position.
struct Far {
  double squared;
  std::int64_t position;
};

RLMBA_INLINE bool before(Far a, Far b) {
  return a.squared > b.squared || (a.squared == b.squared && a.position < b.position);
}

// Candidates whose distances are kept up to date with every new center. Rows are copied into panels
// of kCols interleaved rows, so that a center is compared with kCols of them at once in the input's
// precision. Only if a distance may have shrunk, within rounding error, is it computed in double
// precision.
template <class T>
class FarthestRows {
 public:
  using V = typename Tile<T>::Vector;
  static constexpr int kLanes = Tile<T>::kLanes;
  static constexpr int kVectors = 4;
  static constexpr int kCols = kVectors * kLanes;
  // Columns between two checks whether any row of a panel can still be nearer.
  static constexpr std::int64_t kSlice = 64;

  FarthestRows(MatrixView<const T> x, std::int64_t capacity)
      : x_(x),
        values_(chunk_count(capacity, kCols) * kCols * x.cols),
        limits_(chunk_count(capacity, kCols) * kCols),
        rows_(chunk_count(capacity, kCols) * kCols),
        best_(chunk_count(capacity, kCols)),
        alive_(chunk_count(capacity, kCols)) {
    // The error of a sum of squared differences in T is at most (dim + 3) units, and that of a
    // double sum is far less. The factor covers terms of higher order. Subnormal squares add an
    // absolute term.
    const double dim = static_cast<double>(x.cols);
    const double unit = std::numeric_limits<T>::epsilon() / 2;
    relative_ = 1.05 * ((dim + 4) * unit + (dim + 64) * 0x1.0p-53);
    absolute_ = 2 * dim * static_cast<double>(std::numeric_limits<T>::denorm_min());
  }

  static std::int64_t panel_bytes(std::int64_t dim) {
    return kCols * ((dim + 1) * std::int64_t{sizeof(T)} + std::int64_t{sizeof(Far)}) +
           std::int64_t{sizeof(Best) + sizeof(std::int64_t)};
  }

  bool empty() const { return total_ == 0; }

  // Replaces all rows by `count` other rows.
  void assign(const std::int64_t* positions, std::int64_t count, const double* squared) {
    slots_ = total_ = count;
    const std::int64_t panels = chunk_count(count, kCols);
    parallel_for(panels, panels_at_once(panels), [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t p = first; p < last; ++p) {
        for (std::int64_t s = p * kCols; s < (p + 1) * kCols; ++s) {
          if (s < count) {
            const T* row = x_.row(positions[s]);
            T* out = column(s);
            for (std::int64_t i = 0; i < x_.cols; ++i) out[i * kCols] = row[i];
            set(s, {squared[positions[s]], positions[s]});
          } else {
            clear(s);
          }
        }
        find_best(p);
      }
    });
  }

  // The farthest row; the set must not be empty.
  Far best() const {
    Best best = best_[0];
    for (std::int64_t p = 1; p < chunk_count(slots_, kCols); ++p) {
      if (alive_[p] > 0 && (best.slot < 0 || before(best_[p].row, best.row))) best = best_[p];
    }
    return best.row;
  }

  // Removes the row at `position`, which becomes a center, and every row that falls below `floor`.
  // `dropped` is called for each of the latter, from several threads at once.
  template <class Dropped>
  void add_center(std::int64_t position, Far floor, const Dropped& dropped) {
    const std::int64_t panels = chunk_count(slots_, kCols);
    parallel_for(panels, panels_at_once(panels), [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t p = first; p < last; ++p) {
        if (alive_[p] > 0 && compare(p, position, floor, dropped)) find_best(p);
      }
    });
    total_ = 0;
    for (std::int64_t p = 0; p < panels; ++p) total_ += alive_[p];
    if (2 * total_ < slots_ && panels > 1) compact();
  }

 private:
  // Fewer values than this are processed faster than threads can be woken.
  static constexpr std::int64_t kSerial = std::int64_t{1} << 21;

  struct Best {
    Far row;
    std::int64_t slot;
  };

  static constexpr std::int64_t kChunk = kSerial / 16;

  std::int64_t panels_at_once(std::int64_t panels) const {
    const std::int64_t size = kCols * x_.cols;
    return panels * size > kSerial ? max_i64(1, kChunk / size) : panels;
  }

  T* column(std::int64_t slot) const {
    return values_.data() + slot / kCols * kCols * x_.cols + slot % kCols;
  }

  void set(std::int64_t slot, Far row) {
    rows_[slot] = row;
    const double limit = row.squared * (1 + relative_) + absolute_;
    constexpr T kInfinity = std::numeric_limits<T>::infinity();
    // Beyond the range of T, or without a finite error bound, every comparison is exact.
    limits_[slot] = relative_ < 0.5 && limit < std::numeric_limits<T>::max()
                        ? std::nextafter(static_cast<T>(limit), kInfinity)
                        : kInfinity;
  }

  void clear(std::int64_t slot) {
    rows_[slot].squared = -1;
    limits_[slot] = -1;
  }

  void find_best(std::int64_t panel) {
    Best best{{-1, 0}, -1};
    std::int64_t alive = 0;
    for (std::int64_t s = panel * kCols; s < (panel + 1) * kCols; ++s) {
      if (rows_[s].squared < 0) continue;
      ++alive;
      if (best.slot < 0 || before(rows_[s], best.row)) best = {rows_[s], s};
    }
    best_[panel] = best;
    alive_[panel] = alive;
  }

  // Whether any row of the panel may be nearer to the center than its limit; `sums` gets the
  // squared distances in T if so.
  bool near(const T* panel, const T* center, const T* limits, V* sums) const {
    V acc[kVectors];
    for (int v = 0; v < kVectors; ++v) acc[v] = V{};
    std::int64_t i = 0;
    while (i < x_.cols) {
      const std::int64_t end = min_i64(i + kSlice, x_.cols);
      for (; i < end; ++i) {
        const V c = broadcast<V>(center + i);
        const T* values = panel + i * kCols;
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
          const V d = load<V>(values + v * kLanes) - c;
          acc[v] += d * d;
        }
      }
      // Sums never decrease.
      bool any = false;
      for (int v = 0; v < kVectors; ++v) {
        any |= any_at_most<T>(acc[v], load<V>(limits + v * kLanes));
      }
      if (!any) return false;
    }
    for (int v = 0; v < kVectors; ++v) sums[v] = acc[v];
    return true;
  }

  // Compares a panel with a new center; returns whether anything in it changed.
  template <class Dropped>
  bool compare(std::int64_t panel, std::int64_t position, Far floor, const Dropped& dropped) {
    const std::int64_t begin = panel * kCols;
    V sums[kVectors];
    if (!near(column(begin), x_.row(position), &limits_[begin], sums)) return false;
    T squared[kCols];
    for (int v = 0; v < kVectors; ++v) store(squared + v * kLanes, sums[v]);
    bool changed = false;
    for (int c = 0; c < kCols; ++c) {
      const std::int64_t slot = begin + c;
      if (!(squared[c] <= limits_[slot])) continue;
      Far row = rows_[slot];
      const double d = squared_distance(x_.row(row.position), x_.row(position), x_.cols);
      if (row.position != position && !(d < row.squared)) continue;
      changed = true;
      row.squared = d;
      if (row.position != position && !before(floor, row)) {
        set(slot, row);
      } else {
        if (row.position != position) dropped(row);
        clear(slot);
      }
    }
    return changed;
  }

  // Closes the gaps of dropped rows.
  void compact() {
    std::int64_t to = 0;
    for (std::int64_t from = 0; from < slots_; ++from) {
      if (rows_[from].squared < 0) continue;
      if (from != to) {
        const T* source = column(from);
        T* target = column(to);
        for (std::int64_t i = 0; i < x_.cols; ++i) target[i * kCols] = source[i * kCols];
        rows_[to] = rows_[from];
        limits_[to] = limits_[from];
      }
      ++to;
    }
    slots_ = to;
    const std::int64_t panels = chunk_count(slots_, kCols);
    for (std::int64_t s = slots_; s < panels * kCols; ++s) clear(s);
    for (std::int64_t p = 0; p < panels; ++p) find_best(p);
  }

  MatrixView<const T> x_;
  Scratch<T> values_;
  Scratch<T> limits_;
  Scratch<Far> rows_;
  Scratch<Best> best_;
  Scratch<std::int64_t> alive_;
  std::int64_t slots_ = 0;
  std::int64_t total_ = 0;
  double relative_;
  double absolute_;
};

}  // namespace rlmba::RLMBA_ISA
#endif
