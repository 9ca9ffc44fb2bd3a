#include <pybind11/stl.h>

#include <optional>
#include <vector>

#include "core.hpp"
#include "rlmba/gradient_kmeans_plusplus.hpp"

namespace rlmba::bindings {
namespace {

template <class T>
std::int64_t gradient_kmeans_plusplus(const Array<T>& residuals,
                                      const std::vector<Array<T>>& features,
                                      const std::optional<Array<T>>& scales, std::uint64_t seed,
                                      std::int64_t first, std::int64_t block_min,
                                      std::int64_t block_max, std::int64_t scratch_bytes,
                                      Array<std::int64_t>& indices, Array<double>& at_draw) {
  const auto a = matrix_view(residuals);
  std::vector<MatrixView<const T>> parts;
  for (const auto& part : features) {
    parts.push_back(matrix_view(part));
    if (parts.back().rows != a.rows) throw std::invalid_argument("parts differ in rows");
  }
  const auto count = static_cast<std::int64_t>(parts.size());
  OuterRows<T> x{a, parts.data(), count, {nullptr, 0, 0, 0}};
  if (scales) x.scales = matrix_view(*scales);
  const std::int64_t n = vector_view(indices).size;
  if (n < 1 || n > a.rows || first >= a.rows || block_min < 1 || block_max < block_min ||
      count < 1 || vector_view(at_draw).size != n ||
      (scales && (x.scales.rows != a.rows || x.scales.cols != count))) {
    throw std::invalid_argument("shapes or options of gradient_kmeans_plusplus do not agree");
  }
  const SeedingPlan plan{seed, first, block_min, block_max, scratch_bytes};
  const VectorView<std::int64_t> out{indices.mutable_data(), n};
  double* d = at_draw.mutable_data();
  py::gil_scoped_release release;
  return RLMBA_DISPATCH(gradient_kmeans_plusplus, x, plan, out, d);
}

template <class T>
void register_type(py::module_& m) {
  m.def("gradient_kmeans_plusplus", &gradient_kmeans_plusplus<T>, py::arg("residuals").noconvert(),
        py::arg("features").noconvert(), py::arg("scales").noconvert().none(true), py::arg("seed"),
        py::arg("first"), py::arg("block_min"), py::arg("block_max"), py::arg("scratch_bytes"),
        py::arg("indices").noconvert(), py::arg("at_draw").noconvert());
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
