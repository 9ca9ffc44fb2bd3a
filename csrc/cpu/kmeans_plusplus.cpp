#include <cstring>
#include <limits>

#include "rlmba/d2_sampling.hpp"
#include "rlmba/kmeans.hpp"
#include "rlmba/nearest.hpp"
#include "rlmba/random.hpp"
#include "rlmba/scratch.hpp"
#include "rlmba/squared_distance.hpp"

namespace rlmba::RLMBA_ISA {
namespace {

// Rows of a matrix, for D2Sampling.
template <class T>
class MatrixPoints {
 public:
  static constexpr bool kUpdateLast = true;

  MatrixPoints(MatrixView<const T> x, const SeedingPlan& plan, std::int64_t wanted, double* squared,
               std::int64_t* labels)
      : x_(x),
        scratch_bytes_(plan.scratch_bytes),
        squared_(squared),
        labels_(labels),
        slots_(block_capacity(plan, wanted) * x.cols) {
    for (std::int64_t i = 0; i < x.rows; ++i) {
      squared[i] = std::numeric_limits<double>::infinity();
      labels[i] = -1;
    }
  }

  std::int64_t rows() const { return x_.rows; }

  void gather(std::int64_t slot, std::int64_t position) { copy(slot, x_.row(position)); }

  void move(std::int64_t to, std::int64_t from) { copy(to, &slots_[from * x_.cols]); }

  double distance(std::int64_t a, std::int64_t b) const {
    return squared_distance(&slots_[a * x_.cols], &slots_[b * x_.cols], x_.cols);
  }

  std::int64_t update(std::int64_t first_label, std::int64_t count) {
    const MatrixView<const T> centers{slots_.data(), count, x_.cols, x_.cols};
    return update_nearest(x_, centers, first_label, scratch_bytes_, squared_, labels_);
  }

 private:
  void copy(std::int64_t slot, const T* row) {
    std::memcpy(&slots_[slot * x_.cols], row, static_cast<std::size_t>(x_.cols) * sizeof(T));
  }

  MatrixView<const T> x_;
  std::int64_t scratch_bytes_;
  double* squared_;
  std::int64_t* labels_;
  Scratch<T> slots_;
};

template <class T>
std::int64_t seeding(MatrixView<const T> x, const SeedingPlan& plan,
                     VectorView<std::int64_t> indices, double* squared, std::int64_t* labels) {
  MatrixPoints<T> points(x, plan, indices.size, squared, labels);
  D2Sampling<MatrixPoints<T>> sampling(points, plan, indices, squared, nullptr);
  return sampling.run(plan.first >= 0 ? plan.first
                                      : sampling.place(uniform01(plan.seed, 0), x.rows));
}

}  // namespace

#define RLMBA_DEFINE_SEEDING(T)                                                   \
  std::int64_t kmeans_plusplus(MatrixView<const T> x, const SeedingPlan& plan,    \
                               VectorView<std::int64_t> indices, double* squared, \
                               std::int64_t* labels) {                            \
    return seeding<T>(x, plan, indices, squared, labels);                         \
  }                                                                               \
  void row_pairs(MatrixView<const T> x, double* pairs) {                          \
    parallel_for(x.rows, 4, [&](std::int64_t begin, std::int64_t end) {           \
      for (std::int64_t i = begin; i < end; ++i) {                                \
        for (std::int64_t j = 0; j < i; ++j) {                                    \
          pairs[i * x.rows + j] = squared_distance(x.row(i), x.row(j), x.cols);   \
        }                                                                         \
      }                                                                           \
    });                                                                           \
  }

RLMBA_DEFINE_SEEDING(float)
RLMBA_DEFINE_SEEDING(double)

}  // namespace rlmba::RLMBA_ISA
