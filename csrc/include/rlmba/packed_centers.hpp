#pragma once

#include <cstdint>
#include <limits>

#include "rlmba/parallel.hpp"
#include "rlmba/scratch.hpp"
#include "rlmba/view.hpp"

#ifdef RLMBA_ISA
namespace rlmba::RLMBA_ISA {

// Centers, optionally minus their mean, in slices of kDepth columns and panels of kCols centers.
template <class E>
class PackedCenters {
 public:
  using T = typename E::Value;

  PackedCenters(std::int64_t capacity, std::int64_t dim)
      : dim_(dim),
        values_(bytes(capacity, dim)),
        half_norms_(chunk_count(capacity, E::kCols) * E::kCols),
        shift_(dim) {}

  static std::int64_t bytes(std::int64_t centers, std::int64_t dim) {
    return chunk_count(centers, E::kCols) * E::kCols * E::padded(dim) * std::int64_t{sizeof(T)};
  }

  void pack(MatrixView<const T> centers, bool shifted) {
    count_ = centers.rows;
    panels_ = chunk_count(count_, E::kCols);
    if (shifted) {
      set_shift(centers);
    } else {
      for (std::int64_t i = 0; i < dim_; ++i) shift_[i] = T(0);
    }
    parallel_for(panels_, chunk_rows(E::kCols * dim_), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t panel = begin; panel < end; ++panel) pack_panel(centers, panel);
    });
    largest_ = 0;
    for (std::int64_t j = 0; j < count_; ++j) {
      if (!(half_norms_[j] <= largest_)) largest_ = half_norms_[j];
    }
  }

  unsigned char* slice(std::int64_t column, std::int64_t panel, std::int64_t depth) const {
    return values_.data() +
           (column * panels_ + panel * E::padded(depth)) * E::kCols * std::int64_t{sizeof(T)};
  }
  std::int64_t dim() const { return dim_; }
  std::int64_t count() const { return count_; }
  std::int64_t panels() const { return panels_; }
  const T* half_norms() const { return half_norms_.data(); }
  const T* shift() const { return shift_.data(); }
  // Largest half squared norm of a shifted center: infinite or NaN if one overflows.
  double largest() const { return static_cast<double>(largest_); }

 private:
  void set_shift(MatrixView<const T> centers) {
    parallel_for(dim_, 64, [&](std::int64_t begin, std::int64_t end) {
      double sum[64] = {};
      const std::int64_t width = end - begin;
      for (std::int64_t j = 0; j < centers.rows; ++j) {
        const T* row = centers.row(j) + begin;
        for (std::int64_t i = 0; i < width; ++i) sum[i] += static_cast<double>(row[i]);
      }
      for (std::int64_t i = 0; i < width; ++i) {
        shift_[begin + i] = static_cast<T>(sum[i] / static_cast<double>(centers.rows));
      }
    });
  }

  void pack_panel(MatrixView<const T> centers, std::int64_t panel) {
    double norms[E::kCols] = {};
    for (std::int64_t column = 0; column < dim_; column += E::kDepth) {
      const std::int64_t depth = min_i64(E::kDepth, dim_ - column);
      unsigned char* out = slice(column, panel, depth);
      for (int c = 0; c < E::kCols; ++c) {
        const std::int64_t j = panel * E::kCols + c;
        T values[E::kDepth] = {};
        if (j < count_) {
          for (std::int64_t p = 0; p < depth; ++p) {
            values[p] = centers.row(j)[column + p] - shift_[column + p];
            norms[c] += static_cast<double>(values[p]) * static_cast<double>(values[p]);
          }
        }
        E::pack_center(values, depth, c, out);
      }
    }
    // An empty column of the last panel must never appear to be nearest.
    for (int c = 0; c < E::kCols; ++c) {
      half_norms_[panel * E::kCols + c] = panel * E::kCols + c < count_
                                              ? static_cast<T>(0.5 * norms[c])
                                              : std::numeric_limits<T>::infinity();
    }
  }

  std::int64_t dim_;
  std::int64_t count_ = 0;
  std::int64_t panels_ = 0;
  T largest_ = 0;
  Scratch<unsigned char> values_;
  Scratch<T> half_norms_;
  Scratch<T> shift_;
};

// Memory of one thread to compare up to kGroups * kRows rows with the packed centers. It is
// allocated before the parallel region, where running out of memory can still be reported.
template <class E>
struct Workspace {
  using T = typename E::Value;
  static constexpr std::int64_t kRows = E::kGroups * E::kRows;

  explicit Workspace(unsigned char* memory)
      : norms(reinterpret_cast<double*>(memory)),
        rows(memory + norm_bytes()),
        products(reinterpret_cast<T*>(memory + norm_bytes() + E::kGroups * E::kGroupBytes)) {}

  static std::int64_t bytes(std::int64_t panels) {
    const std::int64_t products = E::kGroups * panels * E::kSize * std::int64_t{sizeof(T)};
    return (norm_bytes() + E::kGroups * E::kGroupBytes + products + 63) / 64 * 64;
  }

  double* norms;  // squared norms of the shifted rows
  unsigned char* rows;
  T* products;

 private:
  static constexpr std::int64_t norm_bytes() {
    return (kRows * std::int64_t{sizeof(double)} + 63) / 64 * 64;
  }
};

}  // namespace rlmba::RLMBA_ISA
#endif
