#pragma once

#include <cstdint>
#include <limits>

#include "rlmba/kmeans.hpp"
#include "rlmba/parallel.hpp"
#include "rlmba/random.hpp"
#include "rlmba/scratch.hpp"
#include "rlmba/view.hpp"

#ifdef RLMBA_ISA
namespace rlmba::RLMBA_ISA {

// Draws positions with probability proportional to weights. Sums are taken in order over chunks of
// kReductionRows and then over the chunks, so that a uniform number chooses the same position for
// any number of threads.
class WeightedDraw {
 public:
  explicit WeightedDraw(VectorView<const double> weights)
      : weights_(weights),
        chunks_(chunk_count(weights.size, kReductionRows)),
        sums_(chunks_),
        ends_(chunks_) {}

  // Must be called after the weights change. Returns their sum.
  double prepare() {
    parallel_for(weights_.size, kReductionRows, [&](std::int64_t begin, std::int64_t end) {
      double sum = 0;
      for (std::int64_t i = begin; i < end; ++i) sum += weights_.data[i];
      sums_[begin / kReductionRows] = sum;
    });
    double total = 0;
    for (std::int64_t c = 0; c < chunks_; ++c) ends_[c] = total += sums_[c];
    return total;
  }

  // Returns the first position whose cumulative weight exceeds uniform * total; its weight is
  // positive.
  std::int64_t draw(double uniform) const {
    const double target = uniform * ends_[chunks_ - 1];
    std::int64_t c = 0;
    std::int64_t count = chunks_;
    while (count > 0) {
      const std::int64_t half = count / 2;
      if (ends_[c + half] <= target) {
        c += half + 1;
        count -= half + 1;
      } else {
        count = half;
      }
    }
    // Rounding may put the target beyond the end of a chunk; its last positive weight is then used.
    c = min_i64(c, chunks_ - 1);
    while (!(sums_[c] > 0)) --c;
    const double rest = c > 0 ? target - ends_[c - 1] : target;
    const std::int64_t end = min_i64((c + 1) * kReductionRows, weights_.size);
    double sum = 0;
    std::int64_t last = -1;
    for (std::int64_t i = c * kReductionRows; i < end; ++i) {
      if (!(weights_.data[i] > 0)) continue;
      last = i;
      sum += weights_.data[i];
      if (sum > rest) break;
    }
    return last;
  }

 private:
  VectorView<const double> weights_;
  std::int64_t chunks_;
  Scratch<double> sums_;
  Scratch<double> ends_;
};

inline std::int64_t block_capacity(const SeedingPlan& plan, std::int64_t wanted) {
  return max_i64(1, min_i64(plan.block_max, max_i64(wanted, plan.block_min)));
}

// Draws rows one after another in proportion to D^2, the squared distance to the nearest row drawn
// before, in blocks. `Points` holds the rows and, in slots 0 to block_capacity - 1, copies of some:
//   rows()                          how many rows there are
//   gather(slot, position)          copies a row into a slot
//   move(to, from)                  copies a slot into another
//   distance(a, b)                  squared distance of two slots
//   update(first_label, count)      the first `count` slots become centers: lowers squared[] of all
//                                   rows; returns -1 or the first row that is not finite
//   kUpdateLast                     whether squared[] must reflect the last block too
template <class Points>
class D2Sampling {
 public:
  // `squared` [rows] belongs to the points; `at_draw` [indices.size], unless null, receives the D^2
  // that each row had when it was drawn (infinity for the first).
  D2Sampling(Points& points, const SeedingPlan& plan, VectorView<std::int64_t> indices,
             const double* squared, double* at_draw)
      : points_(points),
        plan_(plan),
        indices_(indices),
        squared_(squared),
        at_draw_(at_draw),
        draw_({squared, points.rows()}),
        capacity_(block_capacity(plan, indices.size)),
        positions_(capacity_),
        before_(capacity_),
        now_(kStrip),
        pairs_(kStrip * kStrip) {}

  // Returns -1, the first row that is not finite, or kOverflow.
  std::int64_t run(std::int64_t first) {
    record(0, first, std::numeric_limits<double>::infinity());
    points_.gather(0, first);
    std::int64_t bad = -1;
    if (Points::kUpdateLast || indices_.size > 1) bad = points_.update(0, 1);
    std::int64_t chosen = 1;
    while (bad < 0 && chosen < indices_.size) {
      const double total = draw_.prepare();
      if (!(total <= std::numeric_limits<double>::max())) return kOverflow;
      if (total <= 0) {
        fill_exhausted(chosen);
        return -1;
      }
      const std::int64_t accepted = draw_block(chosen);
      if (Points::kUpdateLast || chosen + accepted < indices_.size) {
        bad = points_.update(chosen, accepted);
      }
      chosen += accepted;
    }
    return bad;
  }

  static std::int64_t place(double uniform, std::int64_t count) {
    return min_i64(static_cast<std::int64_t>(uniform * static_cast<double>(count)), count - 1);
  }

 private:
  // Proposals compared at once, in parallel.
  static constexpr std::int64_t kStrip = 64;

  void record(std::int64_t at, std::int64_t position, double squared) {
    indices_.data[at] = position;
    if (at_draw_ != nullptr) at_draw_[at] = squared;
  }

  // Proposes a block of rows from the current distribution. Each proposal is accepted with
  // probability D^2 now / D^2 at the start of the block, so accepted rows have the distribution of
  // sequential draws. Leaves their values in the first slots and returns their number.
  std::int64_t draw_block(std::int64_t chosen) {
    const std::int64_t size =
        min_i64(capacity_, min_i64(max_i64(chosen, plan_.block_min), plan_.block_max));
    const std::uint64_t counter = 1 + 2 * static_cast<std::uint64_t>(proposals_);
    parallel_for(size, 8, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t j = begin; j < end; ++j) {
        const std::int64_t p =
            draw_.draw(uniform01(plan_.seed, counter + 2 * static_cast<std::uint64_t>(j)));
        positions_[j] = p;
        before_[j] = squared_[p];
        points_.gather(j, p);
      }
    });
    std::int64_t accepted = 0;
    std::int64_t walked = 0;
    while (walked < size && chosen + accepted < indices_.size) {
      const std::int64_t room = indices_.size - chosen - accepted;
      const std::int64_t end = min_i64(size, walked + max_i64(8, min_i64(room, kStrip)));
      compare(walked, end, accepted, counter);
      walked = walk(walked, end, chosen, accepted, counter);
    }
    proposals_ += walked;
    return accepted;
  }

  double threshold(std::int64_t j, std::uint64_t counter) const {
    return uniform01(plan_.seed, counter + 2 * static_cast<std::uint64_t>(j) + 1) * before_[j];
  }

  // Distances of proposals [begin, end) to the nearest one accepted so far, and to each other.
  void compare(std::int64_t begin, std::int64_t end, std::int64_t accepted, std::uint64_t counter) {
    parallel_for(end - begin, 1, [&](std::int64_t at, std::int64_t) {
      const std::int64_t j = begin + at;
      const double least = threshold(j, counter);
      double now = before_[j];
      for (std::int64_t l = 0; l < accepted && now > 0 && now >= least; ++l) {
        const double d = points_.distance(j, l);
        if (d < now) now = d;
      }
      now_[at] = now;
      if (!(now > 0 && now >= least)) return;
      for (std::int64_t l = begin; l < j; ++l) {
        pairs_[at * kStrip + (l - begin)] = points_.distance(j, l);
      }
    });
  }

  // Accepts or rejects proposals [begin, end); returns where it stopped.
  std::int64_t walk(std::int64_t begin, std::int64_t end, std::int64_t chosen,
                    std::int64_t& accepted, std::uint64_t counter) {
    bool taken[kStrip] = {};
    std::int64_t j = begin;
    for (; j < end && chosen + accepted < indices_.size; ++j) {
      const double least = threshold(j, counter);
      double now = now_[j - begin];
      for (std::int64_t l = 0; l < j - begin && now > 0 && now >= least; ++l) {
        const double d = pairs_[(j - begin) * kStrip + l];
        if (taken[l] && d < now) now = d;
      }
      if (!(now > 0 && least <= now)) continue;
      taken[j - begin] = true;
      if (accepted < j) points_.move(accepted, j);
      record(chosen + accepted, positions_[j], now);
      ++accepted;
    }
    return j;
  }

  // Every row duplicates a center, so the rest is drawn uniformly from the rows not drawn yet.
  void fill_exhausted(std::int64_t chosen) {
    Scratch<std::int64_t> taken(indices_.size);
    for (std::int64_t c = 0; c < chosen; ++c) insert(taken.data(), c, indices_.data[c]);
    const std::uint64_t counter = 1 + 2 * static_cast<std::uint64_t>(proposals_);
    for (std::int64_t c = chosen; c < indices_.size; ++c) {
      const auto draw = static_cast<std::uint64_t>(c - chosen);
      std::int64_t p = place(uniform01(plan_.seed, counter + draw), points_.rows() - c);
      for (std::int64_t t = 0; t < c && taken[t] <= p; ++t) ++p;
      insert(taken.data(), c, p);
      record(c, p, 0);
    }
  }

  static void insert(std::int64_t* sorted, std::int64_t count, std::int64_t value) {
    for (; count > 0 && sorted[count - 1] > value; --count) sorted[count] = sorted[count - 1];
    sorted[count] = value;
  }

  Points& points_;
  SeedingPlan plan_;
  VectorView<std::int64_t> indices_;
  const double* squared_;
  double* at_draw_;
  WeightedDraw draw_;
  std::int64_t capacity_;
  std::int64_t proposals_ = 0;
  Scratch<std::int64_t> positions_;
  Scratch<double> before_;
  Scratch<double> now_;
  Scratch<double> pairs_;
};

}  // namespace rlmba::RLMBA_ISA
#endif
