#include "rlmba/k_center.hpp"

#include <cstring>
#include <limits>

#include "rlmba/farthest.hpp"
#include "rlmba/largest.hpp"
#include "rlmba/mean_row.hpp"
#include "rlmba/nearest.hpp"
#include "rlmba/parallel.hpp"
#include "rlmba/scratch.hpp"
#include "rlmba/squared_distance.hpp"

namespace rlmba::RLMBA_ISA {
namespace {

// Rows of x whose distances to all labeled rows are computed together while they are in cache.
constexpr std::int64_t kInitialRows = 16384;
// Below this many rows, packing centers for a matrix product costs more than it saves.
constexpr std::int64_t kFewRows = 5;

template <class T>
constexpr std::int64_t kBytes = std::int64_t{sizeof(T)};

// Maximum sizes of the copies; smaller if memory is bounded.
template <class T>
struct Rooms {
  std::int64_t active;   // rows in FarthestRows
  std::int64_t rows;     // rows refreshed at once
  std::int64_t centers;  // centers gathered at once
  std::int64_t nearest;  // bytes for update_nearest

  static constexpr std::int64_t kActiveBytes = std::int64_t{64} << 20;
  static constexpr std::int64_t kRowBytes = std::int64_t{32} << 20;
  static constexpr std::int64_t kRows = 4096;

  Rooms(MatrixView<const T> x, std::int64_t scratch_bytes) {
    using Active = FarthestRows<T>;
    const std::int64_t share = max_i64(scratch_bytes, least(x.cols)) / 4;
    const std::int64_t panel = Active::panel_bytes(x.cols);
    const std::int64_t panels = max_i64(1, min_i64(share, kActiveBytes) / panel);
    // A small part of the pool, so that memory stays a small part of the input.
    active = min_i64(x.rows, min_i64(panels * Active::kCols, x.rows / 16 + 1024));
    const std::int64_t row = row_bytes(x.cols);
    rows = min_i64(max_i64(1, min_i64(share, kRowBytes) / row), min_i64(kRows, x.rows));
    centers = min_i64(max_i64(1, share / row), min_i64(kCentersPerPass, x.rows));
    nearest = share;
  }

  static std::int64_t least(std::int64_t dim) {
    const std::int64_t nearest = nearest_scratch(static_cast<const T*>(nullptr), dim);
    return 4 * max_i64(max_i64(nearest, row_bytes(dim)), FarthestRows<T>::panel_bytes(dim));
  }

  // A row with its squared distance and label.
  static std::int64_t row_bytes(std::int64_t dim) { return dim * kBytes<T> + 16; }
};

// The cost of a round determines the number of candidates of the next. With few candidates, rounds
// are frequent, and each reads all bounds. With many candidates, every pick is slow. The two costs
// are kept within a factor of 2.
class Balance {
 public:
  explicit Balance(std::int64_t most) : most_(most) { size_ = min_i64(256, most); }

  std::int64_t size() const { return size_; }

  void begin_round() {
    const double now = wall_seconds();
    if (started_ > 0) {
      const double setup = ready_ - started_;
      const double picking = now - ready_;
      if (setup > 2 * picking) size_ = min_i64(2 * size_, most_);
      if (picking > 2 * setup) size_ = max_i64(size_ / 2, min_i64(64, most_));
    }
    started_ = now;
  }
  void end_setup() { ready_ = wall_seconds(); }

 private:
  std::int64_t most_;
  std::int64_t size_;
  double started_ = 0;
  double ready_ = 0;
};

// Lazy greedy. Distances only shrink as centers are added, so a row's distance to the centers that
// it was compared with is an upper bound. A round takes the rows with the largest bounds as
// candidates and compares them with the centers added since. It picks among them while the farthest
// candidate is farther than the round's floor: the smallest bound of the candidates at the start of
// the round, which no other row exceeds.
template <class T>
class Greedy {
 public:
  Greedy(MatrixView<const T> x, MatrixView<const T> labeled, const KCenterPlan& plan,
         VectorView<std::int64_t> indices, double* squared)
      : x_(x),
        labeled_(labeled),
        plan_(plan),
        indices_(indices),
        squared_(squared),
        room_(x, plan.scratch_bytes),
        balance_(room_.active),
        bounds_(x.rows),
        seen_(x.rows),
        largest_({bounds_.data(), x.rows}),
        active_(x, room_.active),
        candidates_(room_.active),
        ordered_(room_.active),
        rows_(room_.rows * x.cols),
        row_squared_(room_.rows),
        row_labels_(room_.rows),
        centers_(room_.centers * x.cols) {}

  std::int64_t run(double* radius) {
    const std::int64_t bad = start();
    if (bad != -1) return bad;
    while (true) {
      if (active_.empty()) {
        if (picked_ == x_.rows) return finish(radius, 0);
        if (!begin_round()) return kKCenterOverflow;
        continue;
      }
      const Far best = active_.best();
      if (picked_ == indices_.size || best.squared == 0) return finish(radius, best.squared);
      pick(best);
      const std::int64_t compared = picked_;
      active_.add_center(best.position, floor_, [&](Far row) {
        bounds_[row.position] = row.squared;
        seen_[row.position] = compared;
      });
    }
  }

 private:
  void pick(Far row) {
    indices_.data[picked_] = row.position;
    squared_[picked_] = row.squared;
    bounds_[row.position] = -1;
    // The very first center has no previous center; its distance is the radius after this pick.
    if (picked_ == 1 && labeled_.rows == 0) squared_[0] = row.squared;
    ++picked_;
  }

  // All remaining rows duplicate a center, or enough rows were picked.
  std::int64_t finish(double* radius, double squared) {
    *radius = squared;
    if (picked_ <= 1 && labeled_.rows == 0 && indices_.size > 0) squared_[0] = squared;
    for (std::int64_t i = 0; picked_ < indices_.size; ++i) {
      if (bounds_[i] >= 0) pick({0, i});
    }
    return -1;
  }

  // Fills bounds_ and picks the first center if it is not the farthest row. Returns -1 or a bad
  // row.
  std::int64_t start() {
    std::int64_t first = indices_.size > 0 ? plan_.first : -1;
    if (labeled_.rows == 0 && first < 0) {
      first = nearest_to_mean(x_);
      if (first < 0) {
        const std::int64_t bad = first_bad_row(x_);
        return bad >= 0 ? bad : kKCenterOverflow;
      }
    }
    const bool alone = labeled_.rows == 0;
    const MatrixView<const T> centers =
        alone ? MatrixView<const T>{x_.row(first), 1, x_.cols, x_.cols} : labeled_;
    const std::int64_t bad = initial_bounds(centers, alone ? 1 : 0);
    if (bad >= 0) return bad;
    if (first >= 0) pick({bounds_[first], first});
    return -1;
  }

  std::int64_t initial_bounds(MatrixView<const T> centers, std::int64_t seen) {
    Scratch<std::int64_t> labels(min_i64(kInitialRows, x_.rows));
    for (std::int64_t begin = 0; begin < x_.rows; begin += kInitialRows) {
      const std::int64_t count = min_i64(kInitialRows, x_.rows - begin);
      for (std::int64_t i = 0; i < count; ++i) {
        bounds_[begin + i] = std::numeric_limits<double>::infinity();
        seen_[begin + i] = seen;
        labels[i] = -1;
      }
      const MatrixView<const T> part{x_.row(begin), count, x_.cols, x_.stride};
      const std::int64_t bad =
          update_nearest(part, centers, 0, room_.nearest, &bounds_[begin], labels.data());
      if (bad >= 0) return begin + bad;
    }
    return -1;
  }

  // False if a distance overflows.
  bool begin_round() {
    balance_.begin_round();
    // Rows that are not candidates are below the last floor.
    const double high = floor_.squared >= 0 ? floor_.squared : largest_.max();
    if (!(high <= std::numeric_limits<double>::max())) return false;
    const auto choice = largest_.choose(balance_.size(), high, candidates_.data());
    const std::int64_t count = choice.count;
    floor_ = {choice.cut, choice.last};
    refresh(count);
    std::int64_t kept = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t p = candidates_[i];
      if (!before(floor_, {bounds_[p], p})) ordered_[kept++] = p;
    }
    active_.assign(ordered_.data(), kept, bounds_.data());
    balance_.end_setup();
    return true;
  }

  // Compares the first `count` candidates with the picks made since their last comparison.
  // Candidates are grouped by this number of picks, within a factor of 2; all rows of a group are
  // compared with all picks that any of them needs.
  void refresh(std::int64_t count) {
    std::int64_t ends[65] = {};
    const auto kind = [&](std::int64_t position) {
      int bits = 0;
      for (std::int64_t missed = picked_ - seen_[position]; missed > 0; missed /= 2) ++bits;
      return bits;
    };
    for (std::int64_t i = 0; i < count; ++i) ++ends[kind(candidates_[i])];
    for (int c = 1; c < 65; ++c) ends[c] += ends[c - 1];
    std::int64_t next[65] = {};
    for (int c = 1; c < 65; ++c) next[c] = ends[c - 1];
    for (std::int64_t i = 0; i < count; ++i) {
      ordered_[next[kind(candidates_[i])]++] = candidates_[i];
    }
    for (int c = 1; c < 65; ++c) refresh_class(&ordered_[ends[c - 1]], ends[c] - ends[c - 1]);
  }

  void refresh_class(const std::int64_t* positions, std::int64_t count) {
    if (count < kFewRows) {
      for (std::int64_t i = 0; i < count; ++i) refresh_row(positions[i]);
      return;
    }
    std::int64_t from = picked_;
    for (std::int64_t i = 0; i < count; ++i) from = min_i64(from, seen_[positions[i]]);
    for (std::int64_t i = 0; i < count; i += room_.rows) {
      refresh_block(positions + i, min_i64(room_.rows, count - i), from);
    }
  }

  void refresh_row(std::int64_t position) {
    const std::int64_t seen = seen_[position];
    const auto lesser = [](double a, double b) { return b < a ? b : a; };
    const auto part = [&](std::int64_t begin, std::int64_t end) {
      double least = std::numeric_limits<double>::infinity();
      for (std::int64_t j = seen + begin; j < seen + end; ++j) {
        const T* picked = x_.row(indices_.data[j]);
        least = lesser(least, squared_distance(x_.row(position), picked, x_.cols));
      }
      return least;
    };
    bounds_[position] =
        parallel_reduce(picked_ - seen, chunk_rows(x_.cols), bounds_[position], part, lesser);
    seen_[position] = picked_;
  }

  void refresh_block(const std::int64_t* positions, std::int64_t count, std::int64_t from) {
    gather(positions, count, rows_.data());
    for (std::int64_t i = 0; i < count; ++i) {
      row_squared_[i] = bounds_[positions[i]];
      row_labels_[i] = 0;
    }
    const MatrixView<const T> rows{rows_.data(), count, x_.cols, x_.cols};
    for (std::int64_t j = from; j < picked_; j += room_.centers) {
      const std::int64_t some = min_i64(room_.centers, picked_ - j);
      gather(indices_.data + j, some, centers_.data());
      const MatrixView<const T> centers{centers_.data(), some, x_.cols, x_.cols};
      update_nearest(rows, centers, 0, room_.nearest, row_squared_.data(), row_labels_.data());
    }
    for (std::int64_t i = 0; i < count; ++i) {
      bounds_[positions[i]] = row_squared_[i];
      seen_[positions[i]] = picked_;
    }
  }

  void gather(const std::int64_t* positions, std::int64_t count, T* out) const {
    parallel_for(count, chunk_rows(x_.cols), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        std::memcpy(out + i * x_.cols, x_.row(positions[i]),
                    static_cast<std::size_t>(x_.cols) * sizeof(T));
      }
    });
  }

  MatrixView<const T> x_;
  MatrixView<const T> labeled_;
  KCenterPlan plan_;
  VectorView<std::int64_t> indices_;
  double* squared_;
  Rooms<T> room_;
  Balance balance_;
  std::int64_t picked_ = 0;
  Far floor_{-1, 0};
  // Squared distance of each row to the nearest of the labeled rows and the first seen_ picks; -1
  // for picked rows.
  Scratch<double> bounds_;
  Scratch<std::int64_t> seen_;
  Largest largest_;
  FarthestRows<T> active_;
  Scratch<std::int64_t> candidates_;
  Scratch<std::int64_t> ordered_;
  Scratch<T> rows_;
  Scratch<double> row_squared_;
  Scratch<std::int64_t> row_labels_;
  Scratch<T> centers_;
};

template <class T>
std::int64_t k_center_impl(MatrixView<const T> x, MatrixView<const T> labeled,
                           const KCenterPlan& plan, VectorView<std::int64_t> indices,
                           double* squared, double* radius) {
  if (x.rows == 0) {
    *radius = 0;
    return -1;
  }
  if (indices.size == 0 && labeled.rows == 0) {
    *radius = std::numeric_limits<double>::infinity();
    return first_bad_row(x);
  }
  return Greedy<T>(x, labeled, plan, indices, squared).run(radius);
}

template <class T>
std::int64_t pick_farthest_impl(MatrixView<const T> x, const double* nearest, Far floor,
                                VectorView<std::int64_t> picks, double* squared) {
  Scratch<std::int64_t> kept(x.rows);
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < x.rows; ++i) {
    if (before({nearest[i], i}, floor)) kept[count++] = i;
  }
  FarthestRows<T> active(x, count);
  active.assign(kept.data(), count, nearest);
  std::int64_t picked = 0;
  while (picked < picks.size && !active.empty()) {
    const Far best = active.best();
    if (best.squared == 0) break;
    picks.data[picked] = best.position;
    squared[picked++] = best.squared;
    active.add_center(best.position, floor, [](Far) {});
  }
  return picked;
}

}  // namespace

#define RLMBA_DEFINE_K_CENTER(T)                                                                 \
  std::int64_t k_center(MatrixView<const T> x, MatrixView<const T> labeled,                      \
                        const KCenterPlan& plan, VectorView<std::int64_t> indices,               \
                        double* squared, double* radius) {                                       \
    return k_center_impl(x, labeled, plan, indices, squared, radius);                            \
  }                                                                                              \
  std::int64_t k_center_scratch(const T*, std::int64_t dim) { return Rooms<T>::least(dim); }     \
  std::int64_t pick_farthest(MatrixView<const T> x, const double* nearest, double floor_squared, \
                             std::int64_t floor_row, VectorView<std::int64_t> picks,             \
                             double* squared) {                                                  \
    return pick_farthest_impl(x, nearest, {floor_squared, floor_row}, picks, squared);           \
  }                                                                                              \
  void column_sums(MatrixView<const T> x, double* sums) { sum_rows(x, sums); }                   \
  std::int64_t nearest_to(MatrixView<const T> x, const double* mean, double* squared) {          \
    return nearest_row(x, mean, squared);                                                        \
  }

RLMBA_DEFINE_K_CENTER(float)
RLMBA_DEFINE_K_CENTER(double)

}  // namespace rlmba::RLMBA_ISA
