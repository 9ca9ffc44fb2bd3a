#include "rlmba/herding.hpp"

#include <cmath>
#include <cstring>
#include <limits>

#include "rlmba/affinity_bounds.hpp"
#include "rlmba/bound_heap.hpp"
#include "rlmba/cover.hpp"
#include "rlmba/parallel.hpp"
#include "rlmba/scaled_rows.hpp"
#include "rlmba/scratch.hpp"

namespace rlmba::RLMBA_ISA {
namespace {

constexpr std::int64_t kColumns = 1024;
// Candidates whose bounds are refreshed at once, at first.
constexpr std::int64_t kFirstBlock = 64;

// Sizes of copies and lists. They are smaller if memory is bounded.
template <class T, class E>
struct Rooms {
  std::int64_t columns;  // candidates multiplied at once
  std::int64_t entries;  // neighbors in kept lists
  std::int64_t found;    // neighbors that one thread finds in a pass
  std::int64_t threads = max_threads();

  explicit Rooms(const HerdingProblem<T>& problem) {
    const std::int64_t width = problem.rows.width();
    const std::int64_t most = max_i64(problem.candidates.size, problem.labeled.rows());
    columns = max_i64(1, min_i64(kColumns, most));
    const std::int64_t half = problem.scratch_bytes / 2;
    while (columns > E::kCols && AffinityBounds<T, E>::bytes(width, columns) > half) {
      columns = (columns + 1) / 2;
    }
    // Lists take at most a quarter of the size of the input, or 4 MiB if that is more.
    const std::int64_t input = problem.rows.rows() * width * std::int64_t{sizeof(T)};
    const std::int64_t lists = min_i64(half, max_i64(input / 4, std::int64_t{1} << 22));
    entries = lists / 2 / std::int64_t{sizeof(Neighbor)};
    found = entries / threads;
  }
};

// Lazy greedy. Gains only shrink as centers are added, so a bound on a gain stays one. Bounds come
// from matrix products in float, and exact gains decide between those that come first.
template <class T, class E>
class Greedy {
 public:
  Greedy(const HerdingProblem<T>& problem, VectorView<std::int64_t> indices, double* gains)
      : problem_(problem),
        indices_(indices),
        gains_(gains),
        candidates_(problem.candidates.size),
        scale_(problem.rows),
        room_(problem),
        cover_(problem, E::kCols),
        target_ends_(problem.group_count + 1),
        factors_(problem.rows.modalities),
        bounds_(candidates_),
        bounded_(candidates_),
        exact_(candidates_),
        list_begin_(candidates_),
        list_size_(candidates_),
        heap_(bounds_.data(), problem.candidates.data, candidates_),
        entries_(room_.entries),
        found_(room_.found * room_.threads),
        found_counts_(room_.threads),
        block_(room_.columns),
        aside_(room_.columns),
        positions_(room_.columns),
        block_gains_(room_.columns),
        lists_(room_.columns + 1) {}

  std::int64_t run() {
    scale_.include(problem_.rows);
    const double largest = scale_.include(problem_.labeled);
    if (!(largest < std::numeric_limits<double>::max() / 8)) return kHerdingOverflow;
    cover_.set_scale(scale_.squared());
    AffinityBounds<T, E> bounds(scale_, problem_.rows.width(), problem_.radius, room_.columns,
                                room_.threads);
    pass_ = &bounds;
    find_groups();
    cover_labeled();
    if (indices_.size == 0) return 0;
    first_bounds();
    while (picked_ < indices_.size && step()) {
    }
    return picked_;
  }

 private:
  // Ranges of targets with the same modalities.
  void find_groups() {
    for (std::int64_t g = 0; g <= problem_.group_count; ++g) target_ends_[g] = 0;
    for (std::int64_t t = 0; t < cover_.count(); ++t) ++target_ends_[group(target(t)) + 1];
    for (std::int64_t g = 0; g < problem_.group_count; ++g) target_ends_[g + 1] += target_ends_[g];
  }

  std::int64_t target(std::int64_t t) const { return problem_.targets.data[t]; }
  std::int64_t group(std::int64_t row) const {
    return problem_.groups == nullptr ? 0 : problem_.groups[row];
  }

  // Factors of the modalities that a group and a row's modalities have in common; false if there is
  // none.
  bool set_factors(std::int64_t group, const ModalityRows<T>& rows, std::int64_t row) {
    const std::int64_t modalities = problem_.rows.modalities;
    const std::uint8_t* has = problem_.group_modalities + group * modalities;
    double total = 0;
    for (std::int64_t m = 0; m < modalities; ++m) {
      const bool both = has[m] != 0 && rows.has(row, m);
      factors_[m] = both ? problem_.rows.weights[m] : 0;
      total += factors_[m];
    }
    for (std::int64_t m = 0; m < modalities; ++m) {
      if (factors_[m] > 0) factors_[m] = std::sqrt(factors_[m] / total) * scale_.factor();
    }
    return total > 0;
  }

  ScaledRows<T> scaled(const ModalityRows<T>& rows, const std::int64_t* positions) const {
    return {rows, scale_, factors_.data(), positions};
  }

  bool same_modalities(const ModalityRows<T>& rows, std::int64_t a, std::int64_t b) const {
    for (std::int64_t m = 0; m < rows.modalities; ++m) {
      if (rows.has(a, m) != rows.has(b, m)) return false;
    }
    return true;
  }

  void cover_labeled() {
    const ModalityRows<T>& labeled = problem_.labeled;
    for (std::int64_t begin = 0, end = 0; begin < labeled.rows(); begin = end) {
      end = begin + 1;
      while (end < labeled.rows() && end - begin < room_.columns &&
             same_modalities(labeled, begin, end)) {
        ++end;
      }
      for (std::int64_t l = begin; l < end; ++l) positions_[l - begin] = l;
      for (std::int64_t g = 0; g < problem_.group_count; ++g) {
        if (set_factors(g, labeled, begin)) cover_group(g, begin, end - begin);
      }
    }
    parallel_for(cover_.count(), kReductionRows,
                 [&](std::int64_t begin, std::int64_t end) { cover_.update(begin, end); });
  }

  void cover_group(std::int64_t g, std::int64_t first, std::int64_t count) {
    const std::int64_t begin = target_ends_[g];
    pass_->set_columns(scaled(problem_.labeled, positions_.data()), count);
    pass_->visit_nearer(
        scaled(problem_.rows, problem_.targets.data + begin), target_ends_[g + 1] - begin,
        cover_.reach() + begin, [&](std::int64_t row, std::int64_t column, float) {
          const std::int64_t t = begin + row;
          cover_.cover(
              t, modality_distance(problem_.rows, target(t), problem_.labeled, first + column));
          return cover_.reach()[t];
        });
  }

  bool all_to_all() const {
    return problem_.group_count == 1 && candidates_ == cover_.count() &&
           std::memcmp(problem_.candidates.data, problem_.targets.data,
                       static_cast<std::size_t>(candidates_) * sizeof(std::int64_t)) == 0;
  }

  void first_bounds() {
    for (std::int64_t c = 0; c < candidates_; ++c) {
      bounds_[c] = 0;
      bounded_[c] = 0;
      exact_[c] = -1;
      list_begin_[c] = -1;
    }
    const bool mirrored = all_to_all();
    for (std::int64_t begin = 0, end = 0; begin < candidates_; begin = end) {
      end = run_end(problem_.candidates.data, begin, candidates_);
      if (mirrored) {
        set_factors(0, problem_.rows, target(begin));
        pass_->set_columns(scaled(problem_.rows, problem_.candidates.data + begin), end - begin);
        pass_->add_mirrored_gains(scaled(problem_.rows, problem_.targets.data + begin),
                                  candidates_ - begin, begin, cover_.bounds(), &bounds_[begin],
                                  begin, bounds_.data());
      } else {
        bound(problem_.candidates.data + begin, end - begin, &bounds_[begin], nullptr);
      }
    }
    for (std::int64_t c = 0; c < candidates_; ++c) bounds_[c] = with_rounding(bounds_[c]);
    heap_.rebuild();
  }

  // The end of a run of rows of one group that fit into a pass.
  std::int64_t run_end(const std::int64_t* rows, std::int64_t begin, std::int64_t count) const {
    std::int64_t end = begin + 1;
    while (end < count && end - begin < room_.columns && group(rows[end]) == group(rows[begin])) {
      ++end;
    }
    return end;
  }

  // Bounds on the gains of `count` candidates of one group.
  void bound(const std::int64_t* positions, std::int64_t count, double* gains,
             const Neighbors* found) {
    for (std::int64_t j = 0; j < count; ++j) gains[j] = 0;
    for (std::int64_t g = 0; g < problem_.group_count; ++g) {
      const std::int64_t begin = target_ends_[g];
      const std::int64_t some = target_ends_[g + 1] - begin;
      if (some == 0 || !set_factors(g, problem_.rows, positions[0])) continue;
      pass_->set_columns(scaled(problem_.rows, positions), count);
      pass_->add_gains(scaled(problem_.rows, problem_.targets.data + begin), some, begin,
                       cover_.bounds(), gains, found);
    }
  }

  // Makes progress towards the next pick; false if no gain is positive.
  bool step() {
    if (heap_.empty()) return false;
    const std::int64_t top = heap_.top();
    if (!(bounds_[top] > 0)) return false;
    if (exact_[top] == picked_) {
      pick(heap_.pop());
    } else if (bounded_[top] == picked_) {
      bounds_[top] = exact_gain<false>(top);
      exact_[top] = static_cast<std::int32_t>(picked_);
      heap_.lowered_top();
    } else if (list_begin_[top] >= 0) {
      bound_by_list(top);
      heap_.lowered_top();
    } else {
      refresh();
    }
    return true;
  }

  void pick(std::int64_t c) {
    indices_.data[picked_] = problem_.candidates.data[c];
    gains_[picked_] = bounds_[c];
    exact_gain<true>(c);
    ++picked_;
    wanted_ = kFirstBlock;
  }

  template <bool Picked>
  double exact_gain(std::int64_t c) {
    const std::int64_t position = problem_.candidates.data[c];
    if (list_begin_[c] >= 0) {
      const Neighbor* list = &entries_[list_begin_[c]];
      return cover_.template gain<Picked>(position, list_size_[c],
                                          [&](std::int64_t i) { return list[i].target; });
    }
    return cover_.template gain<Picked>(position, cover_.count(), [](std::int64_t i) { return i; });
  }

  // Bounds a gain by the candidate's list, and drops from it what it no longer covers better.
  void bound_by_list(std::int64_t c) {
    Neighbor* list = &entries_[list_begin_[c]];
    double total = 0;
    std::int32_t kept = 0;
    for (std::int32_t i = 0; i < list_size_[c]; ++i) {
      const float more = list[i].kernel - cover_.floor(list[i].target);
      if (!(more > 0) || cover_.reach()[list[i].target] < 0) continue;
      total +=
          static_cast<double>(more) * static_cast<double>(cover_.utility_above(list[i].target));
      list[kept++] = list[i];
    }
    list_size_[c] = kept;
    lower(c, total * (1 + 0x1.0p-20));
  }

  // The terms of an exact gain may be rounded up, but not from 0.
  double with_rounding(double bound) const {
    return bound > 0 ? bound + static_cast<double>(cover_.count()) * 0x1.0p-52 : 0;
  }

  void lower(std::int64_t c, double bound) {
    bound = with_rounding(bound);
    if (bound < bounds_[c]) bounds_[c] = bound;
    bounded_[c] = static_cast<std::int32_t>(picked_);
  }

  // Bounds the first candidates that have no list, together, and keeps lists of their neighbors.
  void refresh() {
    const std::int64_t most = min_i64(wanted_, room_.columns);
    std::int64_t count = 0;
    std::int64_t others = 0;
    while (count < most && others < room_.columns && !heap_.empty() && bounds_[heap_.top()] > 0) {
      const std::int64_t c = heap_.pop();
      if (bounded_[c] < picked_ && list_begin_[c] < 0) {
        block_[count++] = static_cast<std::int32_t>(c);
      } else {
        aside_[others++] = static_cast<std::int32_t>(c);
      }
    }
    sort_by_group(count);
    for (std::int64_t begin = 0; begin < count;) {
      std::int64_t end = begin;
      const std::int64_t first = group(problem_.candidates.data[block_[begin]]);
      for (; end < count && group(problem_.candidates.data[block_[end]]) == first; ++end) {
        positions_[end - begin] = problem_.candidates.data[block_[end]];
      }
      refresh_group(&block_[begin], end - begin);
      begin = end;
    }
    for (std::int64_t i = 0; i < count; ++i) heap_.push(block_[i]);
    for (std::int64_t i = 0; i < others; ++i) heap_.push(aside_[i]);
    wanted_ = min_i64(2 * wanted_, kColumns);
  }

  void sort_by_group(std::int64_t count) {
    if (problem_.groups == nullptr) return;
    for (std::int64_t i = 1; i < count; ++i) {
      const std::int32_t moved = block_[i];
      const std::int64_t g = group(problem_.candidates.data[moved]);
      std::int64_t j = i;
      for (; j > 0 && group(problem_.candidates.data[block_[j - 1]]) > g; --j) {
        block_[j] = block_[j - 1];
      }
      block_[j] = moved;
    }
  }

  void refresh_group(const std::int32_t* block, std::int64_t count) {
    for (std::int64_t t = 0; t < room_.threads; ++t) found_counts_[t] = 0;
    const Neighbors found{found_.data(), room_.found, found_counts_.data()};
    bound(positions_.data(), count, block_gains_.data(), &found);
    for (std::int64_t j = 0; j < count; ++j) lower(block[j], block_gains_[j]);
    keep_lists(block, count);
  }

  void keep_lists(const std::int32_t* block, std::int64_t count) {
    for (std::int64_t j = 0; j <= count; ++j) lists_[j] = 0;
    std::int64_t total = 0;
    for (std::int64_t t = 0; t < room_.threads; ++t) {
      if (found_counts_[t] > room_.found) return;  // some were left out
      total += found_counts_[t];
      for (std::int64_t i = 0; i < found_counts_[t]; ++i) {
        ++lists_[found_[t * room_.found + i].column + 1];
      }
    }
    if (total > room_.entries) return;
    if (used_ + total > room_.entries) {
      for (std::int64_t c = 0; c < candidates_; ++c) list_begin_[c] = -1;
      used_ = 0;
    }
    for (std::int64_t j = 0; j < count; ++j) {
      lists_[j + 1] += lists_[j];
      list_begin_[block[j]] = used_ + lists_[j];
      list_size_[block[j]] = 0;
    }
    for (std::int64_t t = 0; t < room_.threads; ++t) {
      for (std::int64_t i = 0; i < found_counts_[t]; ++i) {
        const Neighbor& n = found_[t * room_.found + i];
        const std::int32_t c = block[n.column];
        entries_[list_begin_[c] + list_size_[c]++] = n;
      }
    }
    used_ += total;
  }

  const HerdingProblem<T>& problem_;
  VectorView<std::int64_t> indices_;
  double* gains_;
  std::int64_t candidates_;
  RowScale<T> scale_;
  Rooms<T, E> room_;
  Cover<T> cover_;
  Scratch<std::int64_t> target_ends_;
  Scratch<double> factors_;
  AffinityBounds<T, E>* pass_ = nullptr;
  std::int64_t picked_ = 0;
  std::int64_t wanted_ = kFirstBlock;
  // An upper bound on each candidate's gain, and the number of picks at which it was computed from
  // products and exactly.
  Scratch<double> bounds_;
  Scratch<std::int32_t> bounded_;
  Scratch<std::int32_t> exact_;
  // The targets that a candidate may cover better, if they are kept.
  Scratch<std::int64_t> list_begin_;
  Scratch<std::int32_t> list_size_;
  BoundHeap heap_;
  Scratch<Neighbor> entries_;
  std::int64_t used_ = 0;
  Scratch<Neighbor> found_;
  Scratch<std::int64_t> found_counts_;
  Scratch<std::int32_t> block_;
  Scratch<std::int32_t> aside_;
  Scratch<std::int64_t> positions_;
  Scratch<double> block_gains_;
  Scratch<std::int64_t> lists_;
};

template <class T>
std::int64_t herding_impl(const HerdingProblem<T>& problem, VectorView<std::int64_t> indices,
                          double* gains) {
#ifdef RLMBA_HAVE_AMX
  if (tiles_serve<float>(problem.rows.width())) {
    return Greedy<T, AmxEngine>(problem, indices, gains).run();
  }
#endif
  return Greedy<T, VectorEngine<float>>(problem, indices, gains).run();
}

}  // namespace

#define RLMBA_DEFINE_HERDING(T)                                                            \
  std::int64_t herding(const HerdingProblem<T>& problem, VectorView<std::int64_t> indices, \
                       double* gains) {                                                    \
    return herding_impl(problem, indices, gains);                                          \
  }

RLMBA_DEFINE_HERDING(float)
RLMBA_DEFINE_HERDING(double)

}  // namespace rlmba::RLMBA_ISA
