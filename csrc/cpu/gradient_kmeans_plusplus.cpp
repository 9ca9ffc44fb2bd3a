#include "rlmba/gradient_kmeans_plusplus.hpp"

#include <cmath>
#include <cstring>
#include <limits>

#include "rlmba/amx_product.hpp"
#include "rlmba/d2_sampling.hpp"
#include "rlmba/outer_rows.hpp"
#include "rlmba/packed_centers.hpp"
#include "rlmba/row_products.hpp"
#include "rlmba/scratch.hpp"
#include "rlmba/tile_product.hpp"

namespace rlmba::RLMBA_ISA {
namespace {

// Up to this many centers, distances are computed directly, because a tile would be mostly empty.
constexpr std::int64_t kDirectCenters = 2;

// Rows of a matrix without a shift.
template <class T>
struct PlainRows {
  MatrixView<const T> x;

  const T* slice(std::int64_t row, std::int64_t column, std::int64_t, T*, double*) const {
    return x.row(row) + column;
  }
};

// The centers that one pass multiplies the rows with.
template <class E>
struct Pass {
  PackedCenters<E> residuals;
  PackedCenters<E> features;
  Scratch<typename E::Value> half_norms;

  Pass(std::int64_t capacity, std::int64_t classes, std::int64_t width)
      : residuals(capacity, classes),
        features(capacity, width),
        half_norms(chunk_count(capacity, E::kCols) * E::kCols) {}

  static std::int64_t bytes(std::int64_t classes, std::int64_t width, std::int64_t centers) {
    return pass_bytes<E>(classes, centers) + pass_bytes<E>(width, centers) +
           chunk_count(centers, E::kCols) * E::kCols * std::int64_t{sizeof(typename E::Value)};
  }
};

template <class T>
class GradientPoints {
 public:
  static constexpr bool kUpdateLast = false;

  GradientPoints(const OuterRows<T>& x, const SeedingPlan& plan, std::int64_t wanted,
                 double* squared)
      : x_(x),
        features_(x),
        classes_(x.residuals.cols),
        width_(features_.width()),
        scratch_bytes_(plan.scratch_bytes),
        squared_(squared),
        capacity_(block_capacity(plan, wanted)),
        a2_(x.residuals.rows),
        z2_(x.residuals.rows),
        residual_slots_(capacity_ * classes_),
        feature_slots_(capacity_ * width_),
        slots_(capacity_),
        threads_(max_threads()),
        buffers_(threads_ * width_) {
    for (std::int64_t s = 0; s < capacity_; ++s) {
      slots_[s] = {&residual_slots_[s * classes_], &feature_slots_[s * width_], 0, 0};
    }
  }

  std::int64_t rows() const { return x_.residuals.rows; }
  double norm2(std::int64_t row) const { return a2_[row] * z2_[row]; }

  // Norms of all rows. Returns -1, the first row that is not finite, or kOverflow.
  std::int64_t measure() {
    std::int64_t bad = rows();
    std::int64_t huge = rows();
    Scratch<T> zeros(max_i64(classes_, width_));
    for (std::int64_t p = 0; p < max_i64(classes_, width_); ++p) zeros[p] = T(0);
    const auto process = [&](std::int64_t begin, std::int64_t end, std::int64_t thread) {
      for (std::int64_t i = begin; i < end; ++i) {
        const T* a = x_.residuals.row(i);
        const T* z = features_.slice(i, 0, width_, buffer(thread));
        a2_[i] = squared_distance(a, zeros.data(), classes_);
        z2_[i] = squared_distance(z, zeros.data(), width_);
        if (!finite(a2_[i] * z2_[i]) || !finite(a2_[i] + z2_[i])) {
          if (finite_row(a, classes_) && finite_row(z, width_)) {
            lower(huge, i);
          } else {
            lower(bad, i);
          }
        }
      }
    };
    parallel_for(rows(), chunk_rows(width_), threads_, process);
    if (bad < rows()) return bad;
    return huge < rows() ? kOverflow : -1;
  }

  std::int64_t largest() const {
    std::int64_t best = 0;
    for (std::int64_t i = 1; i < rows(); ++i) {
      if (norm2(i) > norm2(best)) best = i;
    }
    return best;
  }

  void forget() {
    for (std::int64_t i = 0; i < rows(); ++i) squared_[i] = std::numeric_limits<double>::infinity();
  }

  void gather(std::int64_t slot, std::int64_t position) {
    T* z = &feature_slots_[slot * width_];
    set(slot, x_.residuals.row(position), features_.slice(position, 0, width_, z), a2_[position],
        z2_[position]);
  }

  void gather(const GradientPoints& others) {
    for (std::int64_t s = 0; s < others.rows(); ++s) {
      const Factors<T> f = others.row(s, 0);
      set(s, f.a, f.z, f.a2, f.z2);
    }
  }

  void copy(std::int64_t position, T* residual, T* feature) const {
    const T* z = features_.slice(position, 0, width_, feature);
    std::memcpy(residual, x_.residuals.row(position),
                static_cast<std::size_t>(classes_) * sizeof(T));
    if (z != feature) std::memcpy(feature, z, static_cast<std::size_t>(width_) * sizeof(T));
  }

  std::int64_t width() const { return width_; }

  void move(std::int64_t to, std::int64_t from) {
    const Factors<T>& f = slots_[from];
    set(to, f.a, f.z, f.a2, f.z2);
  }

  double distance(std::int64_t a, std::int64_t b) const {
    return outer_distance(slots_[a], slots_[b], classes_, width_);
  }

  std::int64_t update(std::int64_t, std::int64_t count) {
    if (count <= kDirectCenters) {
      direct_pass(count);
    } else if (tiles_serve<T>(width_)) {
#ifdef RLMBA_HAVE_AMX
      if constexpr (sizeof(T) == 4) product_passes<AmxEngine>(count);
#endif
    } else {
      product_passes<VectorEngine<T>>(count);
    }
    return -1;
  }

 private:
  T* buffer(std::int64_t thread) const { return &buffers_[thread * width_]; }

  void set(std::int64_t slot, const T* a, const T* z, double a2, double z2) {
    T* residual = &residual_slots_[slot * classes_];
    T* feature = &feature_slots_[slot * width_];
    std::memcpy(residual, a, static_cast<std::size_t>(classes_) * sizeof(T));
    if (z != feature) std::memcpy(feature, z, static_cast<std::size_t>(width_) * sizeof(T));
    slots_[slot].a2 = a2;
    slots_[slot].z2 = z2;
  }

  Factors<T> row(std::int64_t i, std::int64_t thread) const {
    return {x_.residuals.row(i), features_.slice(i, 0, width_, buffer(thread)), a2_[i], z2_[i]};
  }

  void compete(const Factors<T>& f, std::int64_t center, double& squared) const {
    const double d = outer_distance(f, slots_[center], classes_, width_);
    if (d < squared) squared = d;
  }

  void direct_pass(std::int64_t count) {
    const auto process = [&](std::int64_t begin, std::int64_t end, std::int64_t thread) {
      for (std::int64_t i = begin; i < end; ++i) {
        if (squared_[i] == 0) continue;
        const Factors<T> f = row(i, thread);
        for (std::int64_t j = 0; j < count; ++j) compete(f, j, squared_[i]);
      }
    };
    parallel_for(rows(), chunk_rows(width_), threads_, process);
  }

  template <class E>
  void product_passes(std::int64_t count) {
    std::int64_t step = count;
    while (step > E::kCols && Pass<E>::bytes(classes_, width_, step) > scratch_bytes_) {
      step = (step + 1) / 2;
    }
    Pass<E> pass(step, classes_, width_);
    for (std::int64_t begin = 0; begin < count; begin += step) {
      product_pass(pass, begin, min_i64(step, count - begin));
    }
  }

  template <class E>
  void product_pass(Pass<E>& pass, std::int64_t first, std::int64_t count) {
    pass.residuals.pack({&residual_slots_[first * classes_], count, classes_, classes_}, false);
    pass.features.pack({&feature_slots_[first * width_], count, width_, width_}, false);
    const Bound<E> bound(*this, first, count);
    const std::int64_t panels = pass.residuals.panels();
    for (std::int64_t j = 0; j < panels * E::kCols; ++j) {
      // An empty column of the last panel must never appear to be nearest.
      pass.half_norms[j] = j < count ? static_cast<T>(0.5 * slot_norm2(first + j))
                                     : std::numeric_limits<T>::infinity();
    }
    // Short inputs are divided more finely, so that every thread gets some rows.
    const std::int64_t share = chunk_count(chunk_count(rows(), E::kRows), 4 * threads_);
    const std::int64_t block = E::kRows * max_i64(1, min_i64(E::kGroups, share));
    const std::int64_t bytes = Workspace<E>::bytes(panels);
    Scratch<unsigned char> memory(2 * threads_ * bytes);
    const auto process = [&](std::int64_t begin, std::int64_t end, std::int64_t thread) {
      [[maybe_unused]] typename E::Session session;
      Workspace<E> residuals(memory.data() + 2 * thread * bytes);
      Workspace<E> features(memory.data() + (2 * thread + 1) * bytes);
      multiply_rows(PlainRows<T>{x_.residuals}, begin, end, pass.residuals, residuals);
      multiply_rows(features_, begin, end, pass.features, features);
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t at =
            (i - begin) / E::kRows * panels * E::kSize + (i - begin) % E::kRows * E::kCols;
        refine<E>(i, thread, residuals.products + at, features.products + at,
                  pass.half_norms.data(), panels, bound);
      }
    };
    parallel_for(rows(), block, threads_, process);
  }

  double slot_norm2(std::int64_t slot) const { return slots_[slot].a2 * slots_[slot].z2; }

  // Bounds on the rounding of a score |y|^2 / 2 - <a, b> <z, w> of any center y = b (x) w of a
  // pass. With u the unit roundoff, <a, b> errs by at most u r_a |a| |b| (r: E::roundings), <z, w>
  // likewise, the product by u (r_a + r_z + 1) |x| |y|; the half norm and the subtraction add the
  // rest. The factor 1.01 and the extra units cover terms of higher order. The last term is the
  // rounding of the exact distances.
  template <class E>
  struct Bound {
    static constexpr double kUnit = std::numeric_limits<T>::epsilon() / 2;
    static constexpr double kSafe = std::numeric_limits<T>::max() / 64;
    std::int64_t first;
    std::int64_t count;
    double roundings;
    double tiny_a, tiny_z;
    double exact;
    double largest_a2 = 0;
    double largest_z2 = 0;
    double largest = 0;

    Bound(const GradientPoints& points, std::int64_t first_slot, std::int64_t slots)
        : first(first_slot),
          count(slots),
          roundings(E::roundings(points.classes_) + E::roundings(points.width_) + 12),
          tiny_a(E::kTiny * static_cast<double>(points.classes_)),
          tiny_z(E::kTiny * static_cast<double>(points.width_)),
          exact(0x1.0p-53 * (static_cast<double>(points.classes_ + points.width_) * 8 + 1024)) {
      for (std::int64_t s = first; s < first + count; ++s) {
        const Factors<T>& f = points.slots_[s];
        if (f.a2 > largest_a2) largest_a2 = f.a2;
        if (f.z2 > largest_z2) largest_z2 = f.z2;
        if (f.a2 * f.z2 > largest) largest = f.a2 * f.z2;
      }
    }

    bool safe(double a2, double z2) const {
      return a2 < kSafe && z2 < kSafe && a2 * z2 < kSafe && largest_a2 < kSafe &&
             largest_z2 < kSafe && largest < kSafe;
    }

    double score(double a2, double z2) const {
      const double a = std::sqrt(a2);
      const double z = std::sqrt(z2);
      const double b = std::sqrt(largest_a2);
      const double w = std::sqrt(largest_z2);
      const double ta = tiny_a * (1 + a + b);
      const double tz = tiny_z * (1 + z + w);
      return 1.01 * (kUnit * (roundings * a * z * std::sqrt(largest) + 2 * largest) +
                     exact * (a2 * z2 + largest) + ta * z * w + tz * a * b + ta * tz + E::kTiny);
    }
  };

  // Compares one row exactly with every center that may be nearest according to its score.
  template <class E>
  void refine(std::int64_t i, std::int64_t thread, const T* residuals, const T* features,
              const T* half, std::int64_t panels, const Bound<E>& bound) {
    using V = typename Tile<T>::Vector;
    double squared = squared_[i];
    if (squared == 0) return;
    if (!bound.safe(a2_[i], z2_[i])) {
      const Factors<T> f = row(i, thread);
      for (std::int64_t j = 0; j < bound.count; ++j) compete(f, bound.first + j, squared);
      squared_[i] = squared;
      return;
    }
    const auto score = [&](std::int64_t panel, int lane) __attribute__((always_inline)) {
      const std::int64_t at = panel * E::kSize + lane;
      return load<V>(half + panel * E::kCols + lane) -
             load<V>(residuals + at) * load<V>(features + at);
    };
    const double best = least_score<E>(score, panels);
    const double error = bound.score(a2_[i], z2_[i]);
    double limit = best + 2 * error;
    // Compared with the previous nearest center: |x|^2 + 2 score is the squared distance.
    const double old = 0.5 * (squared - norm2(i)) + error + 0x1.0p-52 * (squared + norm2(i));
    if (old < limit) limit = old;
    if (best > limit) return;
    const Factors<T> f = row(i, thread);
    visit_at_most<E>(score, panels, bound.count, limit, [&](std::int64_t j) {
      compete(f, bound.first + j, squared);
      return squared != 0;
    });
    squared_[i] = squared;
  }

  OuterRows<T> x_;
  FeatureRows<T> features_;
  std::int64_t classes_;
  std::int64_t width_;
  std::int64_t scratch_bytes_;
  double* squared_;
  std::int64_t capacity_;
  Scratch<double> a2_;
  Scratch<double> z2_;
  Scratch<T> residual_slots_;
  Scratch<T> feature_slots_;
  Scratch<Factors<T>> slots_;
  std::int64_t threads_;
  Scratch<T> buffers_;  // one row of features for each thread
};

template <class T>
std::int64_t draw(const OuterRows<T>& x, const SeedingPlan& plan, VectorView<std::int64_t> indices,
                  double* at_draw) {
  Scratch<double> squared(x.residuals.rows);
  GradientPoints<T> points(x, plan, indices.size, squared.data());
  const std::int64_t status = points.measure();
  if (status != -1) return status;
  points.forget();
  const std::int64_t first = plan.first >= 0 ? plan.first : points.largest();
  D2Sampling<GradientPoints<T>> sampling(points, plan, indices, squared.data(), at_draw);
  const std::int64_t result = sampling.run(first);
  at_draw[0] = points.norm2(first);
  return result;
}

template <class T>
std::int64_t least_scratch(std::int64_t classes, std::int64_t width) {
#ifdef RLMBA_HAVE_AMX
  if (tiles_serve<T>(width)) return Pass<AmxEngine>::bytes(classes, width, AmxEngine::kCols);
#endif
  return Pass<VectorEngine<T>>::bytes(classes, width, Tile<T>::kCols);
}

// Points whose slots hold `count` rows.
template <class T>
GradientPoints<T> points_of(const OuterRows<T>& x, std::int64_t count, std::int64_t scratch_bytes,
                            double* squared) {
  return {x, {0, 0, 1, max_i64(count, 1), scratch_bytes}, max_i64(count, 1), squared};
}

template <class T>
std::int64_t norms(const OuterRows<T>& x, double* squared) {
  auto points = points_of(x, 0, 0, squared);
  const std::int64_t status = points.measure();
  for (std::int64_t i = 0; i < points.rows(); ++i) squared[i] = points.norm2(i);
  return status;
}

template <class T>
void copy_rows(const OuterRows<T>& x, VectorView<const std::int64_t> rows, T* residuals,
               T* features) {
  const auto points = points_of(x, 0, 0, nullptr);
  for (std::int64_t i = 0; i < rows.size; ++i) {
    points.copy(rows.data[i], residuals + i * x.residuals.cols, features + i * points.width());
  }
}

template <class T>
std::int64_t update(const OuterRows<T>& x, const OuterRows<T>& centers, std::int64_t scratch_bytes,
                    double* squared) {
  auto others = points_of(centers, 0, 0, nullptr);
  others.measure();
  auto points = points_of(x, others.rows(), scratch_bytes, squared);
  const std::int64_t status = points.measure();
  if (status != -1) return status;
  points.gather(others);
  return points.update(0, others.rows());
}

template <class T>
void pairs_of(const OuterRows<T>& x, double* pairs) {
  const std::int64_t count = x.residuals.rows;
  auto points = points_of(x, count, 0, nullptr);
  points.measure();
  points.gather(points);
  parallel_for(count, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      for (std::int64_t j = 0; j < i; ++j) pairs[i * count + j] = points.distance(i, j);
    }
  });
}

}  // namespace

#define RLMBA_DEFINE_GRADIENT(T)                                                               \
  std::int64_t gradient_kmeans_plusplus(const OuterRows<T>& x, const SeedingPlan& plan,        \
                                        VectorView<std::int64_t> indices, double* at_draw) {   \
    return draw(x, plan, indices, at_draw);                                                    \
  }                                                                                            \
  std::int64_t gradient_scratch(const T*, std::int64_t classes, std::int64_t width) {          \
    return least_scratch<T>(classes, width);                                                   \
  }                                                                                            \
  std::int64_t gradient_norms(const OuterRows<T>& x, double* squared) {                        \
    return norms(x, squared);                                                                  \
  }                                                                                            \
  void gradient_rows(const OuterRows<T>& x, VectorView<const std::int64_t> rows, T* residuals, \
                     T* features) {                                                            \
    copy_rows(x, rows, residuals, features);                                                   \
  }                                                                                            \
  std::int64_t gradient_update(const OuterRows<T>& x, const OuterRows<T>& centers,             \
                               std::int64_t scratch_bytes, double* squared) {                  \
    return update(x, centers, scratch_bytes, squared);                                         \
  }                                                                                            \
  void gradient_pairs(const OuterRows<T>& x, double* pairs) { pairs_of(x, pairs); }

RLMBA_DEFINE_GRADIENT(float)
RLMBA_DEFINE_GRADIENT(double)

}  // namespace rlmba::RLMBA_ISA
