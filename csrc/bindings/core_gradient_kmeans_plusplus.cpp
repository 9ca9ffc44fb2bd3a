#include <pybind11/stl.h>

#include <optional>
#include <vector>

#include "core.hpp"
#include "output.hpp"
#include "rlmba/gradient_kmeans_plusplus.hpp"

namespace rlmba::bindings {
namespace {

// Views of rows and their parts, which must outlive the call.
template <class T>
struct Rows {
  std::vector<MatrixView<const T>> parts;
  OuterRows<T> x;

  Rows(const Array<T>& residuals, const std::vector<Array<T>>& features,
       const std::optional<Array<T>>& scales)
      : x{matrix_view(residuals), nullptr, 0, {nullptr, 0, 0, 0}} {
    for (const auto& part : features) {
      parts.push_back(matrix_view(part));
      if (parts.back().rows != x.residuals.rows)
        throw std::invalid_argument("parts differ in rows");
    }
    x.parts = parts.data();
    x.count = static_cast<std::int64_t>(parts.size());
    if (scales) x.scales = matrix_view(*scales);
    if (x.count < 1 ||
        (scales && (x.scales.rows != x.residuals.rows || x.scales.cols != x.count))) {
      throw std::invalid_argument("shapes of residuals, features and scales do not agree");
    }
  }
  Rows(const Rows&) = delete;
  Rows& operator=(const Rows&) = delete;

  std::int64_t rows() const { return x.residuals.rows; }
  std::int64_t width() const {
    std::int64_t sum = 0;
    for (const auto& part : parts) sum += part.cols;
    return sum;
  }
};

template <class T>
std::int64_t gradient_kmeans_plusplus(const Array<T>& residuals,
                                      const std::vector<Array<T>>& features,
                                      const std::optional<Array<T>>& scales, std::uint64_t seed,
                                      std::int64_t first, std::int64_t block_min,
                                      std::int64_t block_max, std::int64_t scratch_bytes,
                                      Array<std::int64_t>& indices, Array<double>& at_draw) {
  const Rows<T> rows(residuals, features, scales);
  const std::int64_t n = vector_view(indices).size;
  if (n < 1 || n > rows.rows() || first >= rows.rows() || block_min < 1 || block_max < block_min ||
      vector_view(at_draw).size != n) {
    throw std::invalid_argument("shapes or options of gradient_kmeans_plusplus do not agree");
  }
  const SeedingPlan plan{seed, first, block_min, block_max, scratch_bytes};
  const VectorView<std::int64_t> out{indices.mutable_data(), n};
  double* d = at_draw.mutable_data();
  py::gil_scoped_release release;
  return RLMBA_DISPATCH(gradient_kmeans_plusplus, rows.x, plan, out, d);
}

template <class T>
std::int64_t gradient_norms(const Array<T>& residuals, const std::vector<Array<T>>& features,
                            const std::optional<Array<T>>& scales, Array<double>& squared) {
  const Rows<T> rows(residuals, features, scales);
  double* out = output(squared, rows.rows());
  py::gil_scoped_release release;
  return RLMBA_DISPATCH(gradient_norms, rows.x, out);
}

template <class T>
void gradient_rows(const Array<T>& residuals, const std::vector<Array<T>>& features,
                   const std::optional<Array<T>>& scales, const Array<std::int64_t>& wanted,
                   Array<T>& residual_rows, Array<T>& feature_rows) {
  const Rows<T> rows(residuals, features, scales);
  const auto some = vector_view(wanted);
  for (std::int64_t i = 0; i < some.size; ++i) {
    if (some.data[i] < 0 || some.data[i] >= rows.rows()) throw std::invalid_argument("no such row");
  }
  T* a = output(residual_rows, some.size * rows.x.residuals.cols);
  T* z = output(feature_rows, some.size * rows.width());
  py::gil_scoped_release release;
  RLMBA_DISPATCH(gradient_rows, rows.x, some, a, z);
}

template <class T>
std::int64_t gradient_update(const Array<T>& residuals, const std::vector<Array<T>>& features,
                             const std::optional<Array<T>>& scales,
                             const Array<T>& center_residuals, const Array<T>& center_features,
                             std::int64_t scratch_bytes, Array<double>& squared) {
  const Rows<T> rows(residuals, features, scales);
  const Rows<T> centers(center_residuals, {center_features}, std::nullopt);
  if (centers.x.residuals.cols != rows.x.residuals.cols || centers.width() != rows.width()) {
    throw std::invalid_argument("shapes of rows and centers do not agree");
  }
  double* out = output(squared, rows.rows());
  py::gil_scoped_release release;
  return RLMBA_DISPATCH(gradient_update, rows.x, centers.x, scratch_bytes, out);
}

template <class T>
void gradient_pairs(const Array<T>& residuals, const Array<T>& features, Array<double>& pairs) {
  const Rows<T> rows(residuals, {features}, std::nullopt);
  double* out = output(pairs, rows.rows() * rows.rows());
  py::gil_scoped_release release;
  RLMBA_DISPATCH(gradient_pairs, rows.x, out);
}

template <class T>
void register_type(py::module_& m) {
  m.def("gradient_kmeans_plusplus", &gradient_kmeans_plusplus<T>, py::arg("residuals").noconvert(),
        py::arg("features").noconvert(), py::arg("scales").noconvert().none(true), py::arg("seed"),
        py::arg("first"), py::arg("block_min"), py::arg("block_max"), py::arg("scratch_bytes"),
        py::arg("indices").noconvert(), py::arg("at_draw").noconvert());
  m.def("gradient_norms", &gradient_norms<T>, py::arg("residuals").noconvert(),
        py::arg("features").noconvert(), py::arg("scales").noconvert().none(true),
        py::arg("squared").noconvert());
  m.def("gradient_rows", &gradient_rows<T>, py::arg("residuals").noconvert(),
        py::arg("features").noconvert(), py::arg("scales").noconvert().none(true),
        py::arg("rows").noconvert(), py::arg("residual_rows").noconvert(),
        py::arg("feature_rows").noconvert());
  m.def("gradient_update", &gradient_update<T>, py::arg("residuals").noconvert(),
        py::arg("features").noconvert(), py::arg("scales").noconvert().none(true),
        py::arg("center_residuals").noconvert(), py::arg("center_features").noconvert(),
        py::arg("scratch_bytes"), py::arg("squared").noconvert());
  m.def("gradient_pairs", &gradient_pairs<T>, py::arg("residuals").noconvert(),
        py::arg("features").noconvert(), py::arg("pairs").noconvert());
  m.def(
      "gradient_scratch",
      [](const Array<T>& residuals, std::int64_t width) {
        const auto a = matrix_view(residuals);
        return RLMBA_DISPATCH(gradient_scratch, a.data, a.cols, width);
      },
      py::arg("residuals").noconvert(), py::arg("width"));
}

}  // namespace

void register_gradient_kmeans_plusplus(py::module_& m) {
  register_type<float>(m);
  register_type<double>(m);
}

}  // namespace rlmba::bindings
