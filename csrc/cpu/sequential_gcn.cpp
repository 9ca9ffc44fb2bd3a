#include "rlmba/sequential_gcn.hpp"

#include <cmath>
#include <cstring>

#include "rlmba/graph_rows.hpp"
#include "rlmba/parallel.hpp"
#include "rlmba/random.hpp"
#include "rlmba/scratch.hpp"
#include "rlmba/stored_rows.hpp"

// Notation: P = A X (constant), q = h w2, t = X^T (q / d), logits = A q + b2; r = dL/dlogit, u =
// X^T r, g = A^T r = dL/dq. With m the mask of units that are positive and not dropped, the
// gradient needs D = (g m)^T P and e = (g m)^T 1 alone: dL/dW1^T = scale w2 D, dL/db1 = scale w2 e,
// dL/dw2 = scale (D W1 + e b1). An epoch therefore stores only one bit per hidden unit.
namespace rlmba::RLMBA_ISA {
namespace {

// Parts of the rows that are summed separately; the sums are then added in order.
constexpr std::int64_t kParts = 32;
constexpr std::int64_t kWord = 32;

template <class E>
class Trainer {
  using T = typename E::Value;
  using Store = StoredRows<E>;
  static constexpr std::int64_t kBlock = Store::kBlock;
  static constexpr std::int64_t kRows = E::kRows;
  static constexpr std::int64_t kCols = E::kCols;

 public:
  // `centered` and `mean` are the result of remove_mean on A X.
  Trainer(MatrixView<const T> x, MatrixView<T> centered, const double* mean, const Graph& graph,
          const std::uint8_t* labeled, const GcnTraining& training, double* parameters)
      : x_(x),
        mean_(mean),
        store_(centered.data, centered.stride, x.rows, x.cols),
        graph_(graph),
        labeled_(labeled),
        training_(training),
        hidden_(training.hidden),
        units_(round_up(round_up(hidden_, kCols), kWord)),
        words_(units_ / kWord),
        panels_(chunk_count(hidden_, kCols)),
        left_groups_(chunk_count(units_, kRows)),
        feature_panels_(chunk_count(x.cols, kCols)),
        blocks_(chunk_count(x.rows, kBlock)),
        parts_(min_i64(kParts, blocks_)),
        count_(hidden_ * x.cols + 2 * hidden_ + 1),
        parameters_(parameters),
        first_moment_(count_),
        second_moment_(count_),
        gradient_(count_),
        packed_(panels_ * kCols * E::padded(x.cols) * std::int64_t{sizeof(T)}),
        bias_(units_),
        weight_(units_),
        q_(x.rows),
        r_(x.rows),
        bits_(round_up(x.rows, kWord) * words_),
        t_(x.cols + 1, parts_),
        u_(x.cols + 1, parts_),
        products_(parts_ * left_groups_ * feature_panels_ * E::kSize),
        unit_sums_(parts_ * units_),
        threads_(max_threads()),
        work_(threads_ * work_bytes()) {
    // Rows of left operands beyond the last unit remain zero.
    for (std::int64_t e = 0; e < threads_ * work_bytes(); ++e) work_[e] = 0;
    for (std::int64_t j = 0; j < count_; ++j) first_moment_[j] = second_moment_[j] = 0;
    for (std::int64_t i = 0; i < round_up(x.rows, kWord) * words_; ++i) bits_[i] = 0;
    std::int64_t marked = 0;
    for (std::int64_t i = 0; i < x.rows; ++i) marked += labeled[i] != 0;
    labeled_pull_ = 1.0 / static_cast<double>(marked);
    unlabeled_pull_ = training.unlabeled_weight / static_cast<double>(x.rows - marked);
    scale_ = 1.0 / (1.0 - static_cast<double>(training.drop_below) / 65536.0);
  }

  void run(T* scores, T* hidden) {
    for (std::int64_t epoch = 0; epoch < training_.epochs; ++epoch) {
      forward(epoch, nullptr);
      second_layer(nullptr);
      backward();
      update(epoch + 1);
    }
    forward(0, hidden);
    second_layer(scores);
  }

 private:
  // Scratch memory of one thread.
  struct Work {
    unsigned char* group;
    unsigned char* left;
    unsigned char* right;
    T* products;
    T* z;
    T* sums;
    T* unit_sums;
    std::uint64_t* random;
    std::uint16_t* bits;
    std::uint8_t* on;
  };

  template <class P>
  static P* take(unsigned char*& at, std::int64_t count) {
    P* p = reinterpret_cast<P*>(at);
    at += round_up(count * std::int64_t{sizeof(P)}, 64);
    return p;
  }

  Work work(unsigned char* at, std::int64_t* bytes = nullptr) const {
    unsigned char* begin = at;
    Work w;
    w.group = take<unsigned char>(at, E::kGroupBytes);
    w.left = take<unsigned char>(at, left_groups_ * Store::kLeftBytes);
    w.right = take<unsigned char>(at, Store::kRightBytes);
    w.products = take<T>(at, panels_ * E::kSize);
    w.z = take<T>(at, units_);
    w.sums = take<T>(at, x_.cols + 1);
    w.unit_sums = take<T>(at, units_ * kWord);
    w.random = take<std::uint64_t>(at, units_ / 4);
    w.bits = take<std::uint16_t>(at, units_);
    w.on = take<std::uint8_t>(at, units_);
    if (bytes != nullptr) *bytes = at - begin;
    return w;
  }

  std::int64_t work_bytes() const {
    std::int64_t bytes = 0;
    work(nullptr, &bytes);
    return bytes;
  }

  Work work_of(std::int64_t thread) const { return work(work_.data() + thread * work_bytes()); }

  double* weights() const { return parameters_; }
  double* biases() const { return parameters_ + hidden_ * x_.cols; }
  double* output_weights() const { return biases() + hidden_; }
  double* output_bias() const { return output_weights() + hidden_; }

  void pack_weights() {
    for (std::int64_t k = 0; k < units_; ++k) {
      weight_[k] = k < hidden_ ? static_cast<T>(output_weights()[k]) : T(0);
    }
    for (std::int64_t k = hidden_; k < units_; ++k) bias_[k] = T(0);
    parallel_for(panels_ * kCols, chunk_rows(x_.cols), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t k = begin; k < end; ++k) {
        if (k < hidden_) {
          const double common = dot(mean_, weights() + k * x_.cols, x_.cols);
          bias_[k] = static_cast<T>(biases()[k] + common);
        }
        for (std::int64_t column = 0; column < x_.cols; column += E::kDepth) {
          const std::int64_t depth = min_i64(E::kDepth, x_.cols - column);
          T values[E::kDepth];
          for (std::int64_t p = 0; p < depth; ++p) {
            values[p] = k < hidden_ ? static_cast<T>(weights()[k * x_.cols + column + p]) : T(0);
          }
          E::pack_center(values, depth, static_cast<int>(k % kCols),
                         panel(column, k / kCols, depth));
        }
      }
    });
  }

  unsigned char* panel(std::int64_t column, std::int64_t index, std::int64_t depth) const {
    return packed_.data() +
           (column * panels_ + index * E::padded(depth)) * kCols * std::int64_t{sizeof(T)};
  }

  // Calls each(row begin, row end) for the blocks of every part of the rows, in order within a
  // part.
  template <class Start, class Each>
  void for_parts(Start start, Each each) {
    parallel_for(parts_, 1, threads_, [&](std::int64_t part, std::int64_t, std::int64_t thread) {
      [[maybe_unused]] typename E::Session session;
      const Work w = work_of(thread);
      start(w, part);
      for (std::int64_t block = part * blocks_ / parts_; block < (part + 1) * blocks_ / parts_;
           ++block) {
        each(w, part, block * kBlock, min_i64((block + 1) * kBlock, x_.rows));
      }
    });
  }

  // Computes q, t and this epoch's mask or, if `hidden` is given, h without dropout.
  void forward(std::int64_t epoch, T* hidden) {
    pack_weights();
    const auto start = [&](const Work&, std::int64_t part) { t_.clear(part); };
    for_parts(start, [&](const Work& w, std::int64_t part, std::int64_t begin, std::int64_t end) {
      for (std::int64_t p = 0; p <= x_.cols; ++p) w.sums[p] = T(0);
      for (std::int64_t row = begin; row < end; row += kRows) {
        multiply_group(w, row / kRows);
        const std::int64_t count = min_i64(kRows, end - row);
        for (std::int64_t r = 0; r < count; ++r) {
          const std::int64_t i = row + r;
          load_units(w, r);
          q_[i] = hidden == nullptr ? drop(w, epoch, i) : keep_all(w, hidden + i * hidden_);
        }
      }
      for (std::int64_t row = begin; row < end; row += kRowsAtOnce) {
        const std::int64_t count = min_i64(kRowsAtOnce, end - row);
        T v[kRowsAtOnce];
        for (std::int64_t j = 0; j < count; ++j) {
          v[j] = static_cast<T>(static_cast<double>(q_[row + j]) * graph_.inverse_degrees[row + j]);
          w.sums[x_.cols] += v[j];
        }
        add_rows(x_, row, count, v, w.sums);
      }
      t_.add(part, w.sums);
    });
    t_.finish();
  }

  void multiply_group(const Work& w, std::int64_t group) const {
    for (std::int64_t column = 0; column < x_.cols; column += E::kDepth) {
      const std::int64_t depth = min_i64(E::kDepth, x_.cols - column);
      const unsigned char* a = store_.group(group, column, depth, w.group);
      for (std::int64_t p = 0; p < panels_; ++p) {
        E::multiply(a, panel(column, p, depth), depth, column > 0, w.products + p * E::kSize);
      }
    }
  }

  // Row r of the products plus the bias; units beyond the last are 0.
  void load_units(const Work& w, std::int64_t r) const {
    for (std::int64_t p = 0; p < panels_; ++p) {
      std::memcpy(w.z + p * kCols, w.products + p * E::kSize + r * kCols, sizeof(T) * kCols);
    }
    for (std::int64_t k = panels_ * kCols; k < units_; ++k) w.z[k] = T(0);
    for (std::int64_t k = 0; k < units_; ++k) w.z[k] += bias_[k];
  }

  T drop(const Work& w, std::int64_t epoch, std::int64_t i) const {
    const std::int64_t draws = chunk_count(hidden_, 4);
    const auto base =
        static_cast<std::uint64_t>(epoch * x_.rows + i) * static_cast<std::uint64_t>(draws);
    const auto threshold = static_cast<std::uint16_t>(training_.drop_below);
    for (std::int64_t j = 0; j < units_ / 4; ++j) {
      w.random[j] = mix64(training_.mask_seed, base + static_cast<std::uint64_t>(j));
    }
    // Copied so that each loop below reads elements of one width.
    std::memcpy(w.bits, w.random, static_cast<std::size_t>(units_) * 2);
    const T* __restrict z = w.z;
    const T* __restrict weight = weight_.data();
    const std::uint16_t* __restrict bits = w.bits;
    std::uint8_t* __restrict on = w.on;
    for (std::int64_t k = 0; k < units_; ++k) {
      on[k] = static_cast<std::uint8_t>((z[k] > T(0)) & (bits[k] >= threshold));
    }
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t k = 0; k < units_; ++k) sum += z[k] * weight[k] * static_cast<T>(on[k]);
    for (std::int64_t word = 0; word < words_; ++word) {
      const std::uint8_t* b = on + word * kWord;
      bits_[i * words_ + word] = gather_bits(b) | gather_bits(b + 8) << 8 |
                                 gather_bits(b + 16) << 16 | gather_bits(b + 24) << 24;
    }
    return static_cast<T>(scale_) * sum;
  }

  T keep_all(const Work& w, T* hidden) const {
    T sum = 0;
    for (std::int64_t k = 0; k < hidden_; ++k) {
      hidden[k] = w.z[k] > T(0) ? w.z[k] : T(0);
      sum += hidden[k] * weight_[k];
    }
    return sum;
  }

  // Computes r and u, and the scores if requested.
  void second_layer(T* scores) {
    const double constant = graph_.shifted ? static_cast<double>(t_.total[x_.cols]) : 0.0;
    const auto start = [&](const Work&, std::int64_t part) { u_.clear(part); };
    for_parts(start, [&](const Work& w, std::int64_t part, std::int64_t begin, std::int64_t end) {
      for (std::int64_t p = 0; p <= x_.cols; ++p) w.sums[p] = T(0);
      for (std::int64_t row = begin; row < end; row += kRowsAtOnce) {
        const std::int64_t count = min_i64(kRowsAtOnce, end - row);
        T products[kRowsAtOnce];
        dot_rows(x_, row, count, t_.total.data(), products);
        for (std::int64_t j = 0; j < count; ++j) {
          const std::int64_t i = row + j;
          const double product = static_cast<double>(products[j]);
          const double logit = graph_.weight() * (product + constant) +
                               (1.0 - graph_.self(i)) * static_cast<double>(q_[i]) + *output_bias();
          const double s = 1.0 / (1.0 + std::exp(-logit));
          if (scores != nullptr) scores[i] = static_cast<T>(s);
          r_[i] = static_cast<T>(labeled_[i] ? (s - 1.0) * labeled_pull_ : s * unlabeled_pull_);
          w.sums[x_.cols] += r_[i];
        }
        add_rows(x_, row, count, &r_[row], w.sums);
      }
      u_.add(part, w.sums);
    });
    u_.finish();
  }

  void backward() {
    const std::int64_t size = left_groups_ * feature_panels_ * E::kSize;
    const auto start = [&](const Work&, std::int64_t part) {
      for (std::int64_t k = 0; k < units_; ++k) unit_sums_[part * units_ + k] = 0;
    };
    for_parts(start, [&](const Work& w, std::int64_t part, std::int64_t begin, std::int64_t end) {
      const std::int64_t depth = Store::sample_depth(end - begin);
      const bool add = begin > part * blocks_ / parts_ * kBlock;
      pack_units(w, part, begin, end, depth);
      for (std::int64_t panel = 0; panel < feature_panels_; ++panel) {
        store_.pack_samples(begin, depth, panel * kCols, w.right);
        for (std::int64_t g = 0; g < left_groups_; ++g) {
          E::multiply(w.left + g * Store::kLeftBytes, w.right, depth, add,
                      &products_[part * size + (panel * left_groups_ + g) * E::kSize]);
        }
      }
    });
    gather_gradient();
  }

  // Computes g m of the rows as a left operand, and its sums over rows.
  void pack_units(const Work& w, std::int64_t part, std::int64_t begin, std::int64_t end,
                  std::int64_t depth) const {
    const double constant = graph_.shifted ? static_cast<double>(u_.total[x_.cols]) : 0.0;
    for (std::int64_t e = 0; e < units_ * kWord; ++e) w.unit_sums[e] = T(0);
    for (std::int64_t row = begin; row < end; row += kWord) {
      const std::int64_t count = min_i64(kWord, end - row);
      T g[kWord] = {};
      for (std::int64_t j = 0; j < count; j += kRowsAtOnce) {
        dot_rows(x_, row + j, min_i64(kRowsAtOnce, count - j), u_.total.data(), g + j);
      }
      for (std::int64_t j = 0; j < count; ++j) {
        const std::int64_t i = row + j;
        const double product = static_cast<double>(g[j]) + constant;
        g[j] = static_cast<T>(graph_.inverse_degrees[i] * graph_.weight() * product +
                              (1.0 - graph_.self(i)) * static_cast<double>(r_[i]));
      }
      const typename Store::Values values(g);
      for (std::int64_t word = 0; word < words_; ++word) {
        std::uint32_t kept[kWord] = {};
        for (std::int64_t j = 0; j < count; ++j) kept[j] = bits_[(row + j) * words_ + word];
        transpose_bits(kept);
        for (std::int64_t k = 0; k < kWord; ++k) {
          const std::uint32_t mask = kept[k];
          values.put(mask, word * kWord + k, row - begin, depth, w.left);
          T* sums = w.unit_sums + (word * kWord + k) * kWord;
          for (int j = 0; j < kWord; ++j) sums[j] += (mask >> j & 1u) != 0 ? g[j] : T(0);
        }
      }
    }
    for (std::int64_t k = 0; k < units_; ++k) {
      for (std::int64_t j = 0; j < kWord; ++j) {
        unit_sums_[part * units_ + k] += static_cast<double>(w.unit_sums[k * kWord + j]);
      }
    }
  }

  void gather_gradient() {
    const std::int64_t size = left_groups_ * feature_panels_ * E::kSize;
    double* output = gradient_.data() + hidden_ * x_.cols;
    parallel_for(hidden_, chunk_rows(x_.cols * parts_), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t k = begin; k < end; ++k) {
        const double* weights = parameters_ + k * x_.cols;
        double* to = gradient_.data() + k * x_.cols;
        double sum = 0;
        for (std::int64_t part = 0; part < parts_; ++part) sum += unit_sums_[part * units_ + k];
        for (std::int64_t p = 0; p < x_.cols; ++p) to[p] = sum * mean_[p];
        for (std::int64_t part = 0; part < parts_; ++part) {
          for (std::int64_t panel = 0; panel < feature_panels_; ++panel) {
            const T* from = &products_[part * size + (panel * left_groups_ + k / kRows) * E::kSize +
                                       k % kRows * kCols];
            const std::int64_t column = panel * kCols;
            const std::int64_t count = min_i64(kCols, x_.cols - column);
            for (std::int64_t p = 0; p < count; ++p) to[column + p] += static_cast<double>(from[p]);
          }
        }
        const double factor = scale_ * output_weights()[k];
        output[hidden_ + k] = scale_ * (dot(to, weights, x_.cols) + sum * biases()[k]);
        output[k] = factor * sum;
        for (std::int64_t p = 0; p < x_.cols; ++p) to[p] *= factor;
      }
    });
    gradient_[count_ - 1] = static_cast<double>(u_.total[x_.cols]);
  }

  // One step of Adam (Kingma and Ba, 2015) with weight decay added to the gradient.
  void update(std::int64_t step) {
    constexpr double kBeta1 = 0.9;
    constexpr double kBeta2 = 0.999;
    constexpr double kEpsilon = 1e-8;
    const double size =
        training_.learning_rate / (1.0 - std::pow(kBeta1, static_cast<double>(step)));
    const double root = 1.0 / std::sqrt(1.0 - std::pow(kBeta2, static_cast<double>(step)));
    parallel_for(count_, kChunkValues, [&](std::int64_t begin, std::int64_t end) {
#pragma omp simd
      for (std::int64_t j = begin; j < end; ++j) {
        const double g = gradient_[j] + training_.weight_decay * parameters_[j];
        const double m = first_moment_[j] = kBeta1 * first_moment_[j] + (1.0 - kBeta1) * g;
        const double v = second_moment_[j] = kBeta2 * second_moment_[j] + (1.0 - kBeta2) * g * g;
        parameters_[j] -= size * m / (std::sqrt(v) * root + kEpsilon);
      }
    });
  }

  MatrixView<const T> x_;
  const double* mean_;
  Store store_;
  Graph graph_;
  const std::uint8_t* labeled_;
  GcnTraining training_;
  std::int64_t hidden_;
  std::int64_t units_;  // hidden units, rounded up
  std::int64_t words_;
  std::int64_t panels_;  // of W1
  std::int64_t left_groups_;
  std::int64_t feature_panels_;
  std::int64_t blocks_;
  std::int64_t parts_;
  std::int64_t count_;
  double* parameters_;
  Scratch<double> first_moment_;
  Scratch<double> second_moment_;
  Scratch<double> gradient_;
  Scratch<unsigned char> packed_;
  Scratch<T> bias_;
  Scratch<T> weight_;
  Scratch<T> q_;
  Scratch<T> r_;
  Scratch<std::uint32_t> bits_;  // of the mask m, [rows, words_]
  ColumnSums<T> t_;
  ColumnSums<T> u_;
  Scratch<T> products_;        // parts of D
  Scratch<double> unit_sums_;  // parts of e
  std::int64_t threads_;
  Scratch<unsigned char> work_;
  double labeled_pull_;
  double unlabeled_pull_;
  double scale_;
};

}  // namespace

void sequential_gcn(MatrixView<const float> x, MatrixView<float> propagated, Graph graph,
                    const std::uint8_t* labeled, const GcnTraining& training, double* parameters,
                    float* scores, float* hidden) {
  Scratch<double> mean(x.cols);
  remove_mean(propagated, x.rows, x.cols, mean.data());
#ifdef RLMBA_HAVE_AMX
  if (x.cols >= 32 && matrix_tiles_allowed() && amx_usable()) {
    Trainer<AmxEngine>(x, propagated, mean.data(), graph, labeled, training, parameters)
        .run(scores, hidden);
    return;
  }
#endif
  Trainer<VectorEngine<float>>(x, propagated, mean.data(), graph, labeled, training, parameters)
      .run(scores, hidden);
}

void sequential_gcn(MatrixView<const double> x, MatrixView<double> propagated, Graph graph,
                    const std::uint8_t* labeled, const GcnTraining& training, double* parameters,
                    double* scores, double* hidden) {
  Scratch<double> mean(x.cols);
  remove_mean(propagated, x.rows, x.cols, mean.data());
  Trainer<VectorEngine<double>>(x, propagated, mean.data(), graph, labeled, training, parameters)
      .run(scores, hidden);
}

}  // namespace rlmba::RLMBA_ISA
