#include <pybind11/stl.h>

#include "dirichlet_input.hpp"

namespace rlmba::bindings {
namespace {

template <class T>
std::int64_t dirichlet_variance(const std::vector<Array<T>>& x, int evidence,
                                const Array<double>& temperatures,
                                const std::optional<Array<double>>& weights, Array<T>& modality,
                                std::optional<Array<T>>& fused) {
  const DirichletArguments<T> arguments(x, evidence, temperatures, weights, std::nullopt);
  const std::int64_t n = arguments.rows();
  T* u = output(modality, n * arguments.modalities());
  T* f = fused ? output(*fused, n) : nullptr;
  if (f != nullptr && !weights) throw std::invalid_argument("a fused result needs weights");
  py::gil_scoped_release release;
  return RLMBA_DISPATCH(dirichlet_variance, arguments.input(), u, f);
}

template <class T>
void define(py::module_& m, const char* name) {
  m.def(name, &dirichlet_variance<T>, py::arg("x"), py::arg("evidence"),
        py::arg("temperatures").noconvert(), py::arg("weights").noconvert(),
        py::arg("modality").noconvert(), py::arg("fused").noconvert());
}

}  // namespace

void register_dirichlet_variance(py::module_& m) {
  define<float>(m, "dirichlet_variance_f32");
  define<double>(m, "dirichlet_variance_f64");
}

}  // namespace rlmba::bindings
