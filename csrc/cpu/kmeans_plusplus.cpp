#include <cstring>
#include <limits>

#include "rlmba/kmeans.hpp"
#include "rlmba/nearest.hpp"
#include "rlmba/parallel.hpp"
#include "rlmba/random.hpp"
#include "rlmba/scratch.hpp"
#include "rlmba/squared_distance.hpp"

namespace rlmba::RLMBA_ISA {
namespace {

// Draws positions in proportion to weights. Sums run over chunks of kReductionRows, each in order,
// and then over the chunks, so that a uniform means the same position whatever the thread count.
class WeightedDraw {
 public:
  explicit WeightedDraw(VectorView<const double> weights)
      : weights_(weights),
        chunks_(chunk_count(weights.size, kReductionRows)),
        sums_(chunks_),
        ends_(chunks_) {}

  // To be called whenever the weights have changed. Returns their sum.
  double prepare() {
#pragma omp parallel for schedule(static)
    for (std::int64_t c = 0; c < chunks_; ++c) {
      const std::int64_t end = min_i64((c + 1) * kReductionRows, weights_.size);
      double sum = 0;
      for (std::int64_t i = c * kReductionRows; i < end; ++i) sum += weights_.data[i];
      sums_[c] = sum;
    }
    double total = 0;
    for (std::int64_t c = 0; c < chunks_; ++c) ends_[c] = total += sums_[c];
    return total;
  }

  // The first position whose cumulated weight exceeds uniform * total; its weight is positive.
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
    // Rounding may leave the target at the very end of a chunk, or of all: its last weight serves.
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

template <class T>
class Seeding {
 public:
  Seeding(MatrixView<const T> x, const SeedingPlan& plan, VectorView<std::int64_t> indices,
          double* squared, std::int64_t* labels)
      : x_(x),
        plan_(plan),
        indices_(indices),
        squared_(squared),
        labels_(labels),
        draw_({squared, x.rows}),
        capacity_(max_i64(1, min_i64(plan.block_max, max_i64(indices.size, plan.block_min)))),
        rows_(capacity_ * x.cols),
        positions_(capacity_),
        before_(capacity_),
        now_(capacity_) {}

  std::int64_t run() {
    for (std::int64_t i = 0; i < x_.rows; ++i) {
      squared_[i] = std::numeric_limits<double>::infinity();
      labels_[i] = -1;
    }
    indices_.data[0] = plan_.first >= 0 ? plan_.first : place(uniform01(plan_.seed, 0), x_.rows);
    gather(0, indices_.data[0]);
    std::int64_t bad = update(0, 1);
    std::int64_t chosen = 1;
    while (bad < 0 && chosen < indices_.size) {
      const double total = draw_.prepare();
      if (!(total <= std::numeric_limits<double>::max())) return kOverflow;
      if (total <= 0) {
        fill_exhausted(chosen);
        return -1;
      }
      const std::int64_t accepted = draw_block(chosen);
      bad = update(chosen, accepted);
      chosen += accepted;
    }
    return bad;
  }

 private:
  static std::int64_t place(double uniform, std::int64_t count) {
    return min_i64(static_cast<std::int64_t>(uniform * static_cast<double>(count)), count - 1);
  }

  void gather(std::int64_t slot, std::int64_t position) {
    std::memcpy(&rows_[slot * x_.cols], x_.row(position),
                static_cast<std::size_t>(x_.cols) * sizeof(T));
  }

  // The first `count` gathered rows become centers.
  std::int64_t update(std::int64_t first_label, std::int64_t count) {
    const MatrixView<const T> centers{rows_.data(), count, x_.cols, x_.cols};
    return update_nearest(x_, centers, first_label, plan_.scratch_bytes, squared_, labels_);
  }

  // Proposes a block of rows by the current law and accepts each with the probability by which what
  // was accepted before it in the block has lowered its D^2: the accepted rows follow the
  // sequential law. Leaves their values in the first slots and their positions in indices_; returns
  // how many.
  std::int64_t draw_block(std::int64_t chosen) {
    const std::int64_t size =
        min_i64(capacity_, min_i64(max_i64(chosen, plan_.block_min), plan_.block_max));
    const std::uint64_t counter = 1 + 2 * static_cast<std::uint64_t>(proposals_);
#pragma omp parallel for schedule(static)
    for (std::int64_t j = 0; j < size; ++j) {
      const std::int64_t p =
          draw_.draw(uniform01(plan_.seed, counter + 2 * static_cast<std::uint64_t>(j)));
      positions_[j] = p;
      before_[j] = now_[j] = squared_[p];
      gather(j, p);
    }
    std::int64_t accepted = 0;
    std::int64_t j = 0;
    for (; j < size && chosen + accepted < indices_.size; ++j) {
      const double uniform = uniform01(plan_.seed, counter + 2 * static_cast<std::uint64_t>(j) + 1);
      if (!(now_[j] > 0 && uniform * before_[j] <= now_[j])) continue;
      const T* center = &rows_[j * x_.cols];
      for (std::int64_t l = j + 1; l < size; ++l) {
        const double d = squared_distance(&rows_[l * x_.cols], center, x_.cols);
        if (d < now_[l]) now_[l] = d;
      }
      if (accepted < j) {
        std::memcpy(&rows_[accepted * x_.cols], center,
                    static_cast<std::size_t>(x_.cols) * sizeof(T));
      }
      indices_.data[chosen + accepted] = positions_[j];
      ++accepted;
    }
    proposals_ += j;
    return accepted;
  }

  // Every row duplicates a center: the rest is drawn uniformly from the rows not drawn yet.
  void fill_exhausted(std::int64_t chosen) {
    Scratch<std::int64_t> taken(indices_.size);
    for (std::int64_t c = 0; c < chosen; ++c) insert(taken.data(), c, indices_.data[c]);
    const std::uint64_t counter = 1 + 2 * static_cast<std::uint64_t>(proposals_);
    for (std::int64_t c = chosen; c < indices_.size; ++c) {
      const auto draw = static_cast<std::uint64_t>(c - chosen);
      std::int64_t p = place(uniform01(plan_.seed, counter + draw), x_.rows - c);
      for (std::int64_t t = 0; t < c && taken[t] <= p; ++t) ++p;
      insert(taken.data(), c, p);
      indices_.data[c] = p;
    }
  }

  static void insert(std::int64_t* sorted, std::int64_t count, std::int64_t value) {
    for (; count > 0 && sorted[count - 1] > value; --count) sorted[count] = sorted[count - 1];
    sorted[count] = value;
  }

  MatrixView<const T> x_;
  SeedingPlan plan_;
  VectorView<std::int64_t> indices_;
  double* squared_;
  std::int64_t* labels_;
  WeightedDraw draw_;
  std::int64_t capacity_;
  std::int64_t proposals_ = 0;
  Scratch<T> rows_;
  Scratch<std::int64_t> positions_;
  Scratch<double> before_;
  Scratch<double> now_;
};

}  // namespace

#define RLMBA_DEFINE_SEEDING(T)                                                   \
  std::int64_t kmeans_plusplus(MatrixView<const T> x, const SeedingPlan& plan,    \
                               VectorView<std::int64_t> indices, double* squared, \
                               std::int64_t* labels) {                            \
    return Seeding<T>(x, plan, indices, squared, labels).run();                   \
  }

RLMBA_DEFINE_SEEDING(float)
RLMBA_DEFINE_SEEDING(double)

}  // namespace rlmba::RLMBA_ISA
