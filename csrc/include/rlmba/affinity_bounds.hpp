#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "rlmba/packed_centers.hpp"
#include "rlmba/parallel.hpp"
#include "rlmba/row_products.hpp"
#include "rlmba/scaled_rows.hpp"
#include "rlmba/scratch.hpp"
#include "rlmba/simd.hpp"
#include "rlmba/vector_math.hpp"

#ifdef RLMBA_ISA
namespace rlmba::RLMBA_ISA {

// Numbers of each target in float, rounded so that bounds on gains stay upper bounds: half the
// scaled distance to the nearest center (rounded up; -1 if it is 0), the covered part (rounded
// down) and the utility (rounded up).
struct TargetBounds {
  const float* reach;
  const float* covered;
  const float* utility;
};

// A target that a candidate (a column) may cover better, with an upper bound on their kernel.
struct Neighbor {
  std::int32_t column;
  std::int32_t target;
  float kernel;
};

// Lists of neighbors that threads append to, until their memory is full.
struct Neighbors {
  Neighbor* data;
  std::int64_t capacity;  // of each thread
  std::int64_t* counts;   // [threads]; beyond the capacity if some were left out
};

// Products of rows with up to `capacity` columns, and bounds on distances and kernels from them. A
// half distance is |x|^2 / 2 + |j|^2 / 2 - x.j of scaled rows; the computed one minus an error
// bound is a lower bound, since norms enter reduced by that error.
template <class T, class E>
class AffinityBounds {
 public:
  using V = FloatVec;
  static constexpr std::int64_t kBlock = Workspace<E>::kRows;

  AffinityBounds(const RowScale<T>& scale, std::int64_t width, double radius, std::int64_t capacity,
                 std::int64_t threads)
      : scale_(scale),
        width_(width),
        threads_(threads),
        packed_(capacity, width),
        gathered_(capacity * width),
        half_(chunk_count(capacity, E::kCols) * E::kCols),
        bytes_(Workspace<E>::bytes(chunk_count(capacity, E::kCols))),
        memory_(threads_ * bytes_),
        sums_(threads_ * chunk_count(capacity, E::kCols) * E::kCols) {
    constexpr double u = std::numeric_limits<float>::epsilon() / 2;
    // Sums of norms may round once for every fourth value of a slice; 20 covers the rest.
    const double depth = static_cast<double>(min_i64(width, E::kDepth));
    keep_ = 1 - 1.05 * u * (E::roundings(width) + depth / 4 + 20);
    // 2^(-factor s) = exp(-2 s / r^2) for half distances s; a smaller factor is an upper bound.
    const double scaled = radius * scale.factor() * radius * scale.factor();
    const double factor = scaled > 0 ? 2 / scaled * 1.4426950408889634 : 1e30;
    factor_ = static_cast<float>(factor < 1e30 ? factor * (1 - 4 * u) : 1e30);
    // exp2_scaled takes exponents down to -125; a shorter distance is an upper bound, too.
    farthest_ = factor_ > 1.25e-28f ? 125 / factor_ : 1e30f;
  }

  static std::int64_t bytes(std::int64_t width, std::int64_t capacity) {
    return pass_bytes<E>(width, capacity) + capacity * (width + 4) * std::int64_t{sizeof(float)} +
           max_threads() * capacity * std::int64_t{sizeof(double)};
  }

  void set_columns(const ScaledRows<T>& source, std::int64_t count) {
    count_ = count;
    parallel_for(count, chunk_rows(width_), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t j = begin; j < end; ++j) {
        double unused = 0;
        float* out = &gathered_[j * width_];
        for (std::int64_t p = 0; p < width_; p += E::kDepth) {
          source.slice(j, p, min_i64(E::kDepth, width_ - p), out + p, &unused);
        }
      }
    });
    packed_.pack({gathered_.data(), count, width_, width_}, false);
    for (std::int64_t j = 0; j < packed_.panels() * E::kCols; ++j) {
      half_[j] = lowered(static_cast<double>(packed_.half_norms()[j]));
    }
  }

  // Calls visit(row, column, reach) for the columns that may be nearer to a row than its reach, in
  // increasing order. `visit` returns the reach for the rest of the row.
  template <class Visit>
  void visit_nearer(const ScaledRows<T>& rows, std::int64_t count, const float* reach,
                    const Visit& visit) {
    multiply(rows, count,
             [&](std::int64_t, std::int64_t begin, std::int64_t end, const Workspace<E>& work) {
               for (std::int64_t i = begin; i < end; ++i) {
                 float limit = reach[i];
                 const float norm = lowered(0.5 * work.norms[i - begin]);
                 for (std::int64_t panel = 0; panel < packed_.panels(); ++panel) {
                   V s[2];
                   halves(work, i - begin, panel, norm, s);
                   if (!any_at_most<float>(min(s[0], s[1]), splat(limit))) continue;
                   float lanes[E::kCols];
                   store(lanes, s[0]);
                   store(lanes + E::kLanes, s[1]);
                   for (int l = 0; l < E::kCols && panel * E::kCols + l < count_; ++l) {
                     if (lanes[l] <= limit) limit = visit(i, panel * E::kCols + l, limit);
                   }
                 }
               }
             });
  }

  // Adds to gains[column] an upper bound on the gain of each column from the targets `rows`, whose
  // first has index `first`. With `mirrored`, the columns are the targets from index `columns_at`
  // on, every row is a candidate too, and the gains of the rows beyond the columns from the columns
  // are added to row_gains.
  void add_gains(const ScaledRows<T>& rows, std::int64_t count, std::int64_t first,
                 const TargetBounds& targets, double* gains, const Neighbors* found) {
    add<false>(rows, count, first, targets, gains, found, 0, nullptr);
  }
  void add_mirrored_gains(const ScaledRows<T>& rows, std::int64_t count, std::int64_t first,
                          const TargetBounds& targets, double* gains, std::int64_t columns_at,
                          double* row_gains) {
    add<true>(rows, count, first, targets, gains, nullptr, columns_at, row_gains);
  }

 private:
  float lowered(double half_norm) const {
    const float value = static_cast<float>(half_norm * keep_) - 0x1.0p-100f;
    return std::isinf(half_norm) ? std::numeric_limits<float>::infinity() : value;
  }

  template <class Block>
  void multiply(const ScaledRows<T>& rows, std::int64_t count, const Block& block) {
    const std::int64_t threads = count * count_ * width_ < kSerial ? 1 : threads_;
    const std::int64_t share = chunk_count(chunk_count(count, E::kRows), 4 * threads);
    const std::int64_t step = E::kRows * max_i64(1, min_i64(E::kGroups, share));
    parallel_for(count, step, threads,
                 [&](std::int64_t begin, std::int64_t end, std::int64_t thread) {
                   [[maybe_unused]] typename E::Session session;
                   Workspace<E> work(memory_.data() + thread * bytes_);
                   multiply_rows(rows, begin, end, packed_, work);
                   block(thread, begin, end, work);
                 });
  }

  // Lower bounds on half distances of one row to a panel of columns.
  RLMBA_INLINE void halves(const Workspace<E>& work, std::int64_t row, std::int64_t panel,
                           float norm, V (&s)[2]) const {
    const float* products = work.products + (row / E::kRows * packed_.panels() + panel) * E::kSize +
                            row % E::kRows * E::kCols;
    const float* half = &half_[panel * E::kCols];
    s[0] = splat(norm) - (load(products) - load(half));
    s[1] = splat(norm) - (load(products + E::kLanes) - load(half + E::kLanes));
  }

  RLMBA_INLINE void kernels(const V (&s)[2], V (&k)[2]) const {
    V x[2];
    for (int v = 0; v < 2; ++v) x[v] = min(max(s[v], splat(0.0f)), splat(farthest_));
    exp2_scaled<5>(x, splat(-factor_), splat(0.0f), k);
    // Rounded up by more than the error of exp2_scaled.
    for (int v = 0; v < 2; ++v) k[v] = min(k[v] * splat(1.000001f), splat(1.0f));
  }

  template <bool Mirrored>
  void add(const ScaledRows<T>& rows, std::int64_t count, std::int64_t first,
           const TargetBounds& targets, double* gains, const Neighbors* found,
           std::int64_t columns_at, double* row_gains) {
    const std::int64_t panels = packed_.panels();
    const std::int64_t stride = panels * E::kCols;
    for (std::int64_t j = 0; j < threads_ * stride; ++j) sums_[j] = 0;
    multiply(
        rows, count,
        [&](std::int64_t thread, std::int64_t begin, std::int64_t end, const Workspace<E>& work) {
          const std::int64_t at = first + begin;
          float norms[kBlock];
          for (std::int64_t r = 0; r < end - begin; ++r) {
            norms[r] = lowered(0.5 * work.norms[r]);
          }
          V across[kBlock];
          if constexpr (Mirrored) {
            for (std::int64_t r = 0; r < end - begin; ++r) across[r] = V{};
          }
          for (std::int64_t panel = 0; panel < panels; ++panel) {
            V sum[2] = {V{}, V{}};
            for (std::int64_t r = 0; r < end - begin; ++r) {
              add_row<Mirrored>(work, r, panel, norms[r], at + r, targets, sum, thread, found,
                                columns_at, &across[Mirrored ? r : 0]);
            }
            double* out = &sums_[thread * stride + panel * E::kCols];
            for (int v = 0; v < 2; ++v) {
              for (int l = 0; l < E::kLanes; ++l) {
                out[v * E::kLanes + l] += static_cast<double>(sum[v][l]);
              }
            }
          }
          if constexpr (Mirrored) {
            for (std::int64_t r = 0; r < end - begin; ++r) {
              if (at + r < columns_at + count_) continue;
              float total = 0;
              for (int l = 0; l < E::kLanes; ++l) total += across[r][l];
              row_gains[at + r] += static_cast<double>(total) * kSlack;
            }
          }
        });
    for (std::int64_t t = 0; t < threads_; ++t) {
      for (std::int64_t j = 0; j < count_; ++j) gains[j] += sums_[t * stride + j] * kSlack;
    }
  }

  template <bool Mirrored>
  RLMBA_INLINE void add_row(const Workspace<E>& work, std::int64_t r, std::int64_t panel,
                            float norm, std::int64_t target, const TargetBounds& targets,
                            V (&sum)[2], std::int64_t thread, const Neighbors* found,
                            std::int64_t columns_at, V* across) const {
    V s[2];
    halves(work, r, panel, norm, s);
    const float reach = targets.reach[target];
    bool any = any_at_most<float>(min(s[0], s[1]), splat(reach));
    const std::int64_t column = columns_at + panel * E::kCols;
    if constexpr (Mirrored) {
      for (int v = 0; v < 2; ++v) {
        any |= any_at_most<float>(s[v], load(targets.reach + column + v * E::kLanes));
      }
    }
    if (!any) return;
    V k[2];
    kernels(s, k);
    const V covered = splat(targets.covered[target]);
    const V utility = splat(targets.utility[target]);
    for (int v = 0; v < 2; ++v) {
      sum[v] = fma(max(k[v] - covered, splat(0.0f)), utility, sum[v]);
    }
    if constexpr (Mirrored) {
      for (int v = 0; v < 2; ++v) {
        const V more = max(k[v] - load(targets.covered + column + v * E::kLanes), splat(0.0f));
        *across = fma(more, load(targets.utility + column + v * E::kLanes), *across);
      }
    } else if (found != nullptr) {
      append(s, k, reach, panel, target, thread, *found);
    }
  }

  void append(const V (&s)[2], const V (&k)[2], float reach, std::int64_t panel,
              std::int64_t target, std::int64_t thread, const Neighbors& found) const {
    std::int64_t& count = found.counts[thread];
    Neighbor* out = found.data + thread * found.capacity;
    for (int v = 0; v < 2; ++v) {
      for (int l = 0; l < E::kLanes; ++l) {
        const std::int64_t j = panel * E::kCols + v * E::kLanes + l;
        if (!(s[v][l] <= reach) || j >= count_) continue;
        if (count < found.capacity) {
          out[count] = {static_cast<std::int32_t>(j), static_cast<std::int32_t>(target), k[v][l]};
        }
        ++count;
      }
    }
  }

  // Fewer products than this take less time than waking threads.
  static constexpr std::int64_t kSerial = std::int64_t{1} << 21;
  // Covers the rounding of sums of at most 256 terms in float.
  static constexpr double kSlack = 1 + 0x1.0p-15;
  static_assert(kBlock <= 256);

  const RowScale<T>& scale_;
  std::int64_t width_;
  std::int64_t threads_;
  std::int64_t count_ = 0;
  PackedCenters<E> packed_;
  Scratch<float> gathered_;
  Scratch<float> half_;
  std::int64_t bytes_;
  Scratch<unsigned char> memory_;
  Scratch<double> sums_;
  double keep_;
  float factor_;
  float farthest_;
};

}  // namespace rlmba::RLMBA_ISA
#endif
