#include "core.hpp"
#include "output.hpp"
#include "rlmba/sequential_gcn.hpp"

namespace rlmba::bindings {
namespace {

template <class T>
void sequential_gcn(const Array<T>& x, Array<T>& propagated, const Array<double>& inverse_norms,
                    const Array<double>& inverse_degrees, bool shifted,
                    const Array<std::uint8_t>& labeled, std::int64_t epochs,
                    std::uint32_t drop_below, double learning_rate, double weight_decay,
                    double unlabeled_weight, std::uint64_t mask_seed, Array<double>& parameters,
                    Array<T>& scores, Array<T>& hidden) {
  const auto rows = matrix_view(x);
  const auto p = matrix_view(propagated);
  const std::int64_t units = matrix_view(hidden).cols;
  const auto norms = vector_view(inverse_norms);
  const auto degrees = vector_view(inverse_degrees);
  const auto marked = vector_view(labeled);
  if (rows.rows < 1 || rows.cols < 1 || units < 1 || epochs < 0 || drop_below > 65535 ||
      p.stride != p.cols || p.rows % 32 != 0 || p.cols % 32 != 0 || p.rows < rows.rows ||
      p.cols < rows.cols || p.cols >= rows.cols + 32 || norms.size != rows.rows ||
      degrees.size != rows.rows || marked.size != rows.rows) {
    throw std::invalid_argument("shapes or options of sequential_gcn do not agree");
  }
  double* theta = output(parameters, units * rows.cols + 2 * units + 1);
  T* s = output(scores, rows.rows);
  T* h = output(hidden, rows.rows * units);
  const MatrixView<T> workspace{propagated.mutable_data(), p.rows, p.cols, p.stride};
  const Graph graph{norms.data, degrees.data, shifted};
  const GcnTraining training{epochs,           units,    drop_below, learning_rate, weight_decay,
                             unlabeled_weight, mask_seed};
  py::gil_scoped_release release;
  RLMBA_DISPATCH(sequential_gcn, rows, workspace, graph, marked.data, training, theta, s, h);
}

template <class T>
void register_type(py::module_& m) {
  m.def("sequential_gcn", &sequential_gcn<T>, py::arg("x").noconvert(),
        py::arg("propagated").noconvert(), py::arg("inverse_norms").noconvert(),
        py::arg("inverse_degrees").noconvert(), py::arg("shifted"), py::arg("labeled").noconvert(),
        py::arg("epochs"), py::arg("drop_below"), py::arg("learning_rate"), py::arg("weight_decay"),
        py::arg("unlabeled_weight"), py::arg("mask_seed"), py::arg("parameters").noconvert(),
        py::arg("scores").noconvert(), py::arg("hidden").noconvert());
}

}  // namespace

void register_sequential_gcn(py::module_& m) {
  register_type<float>(m);
  register_type<double>(m);
}

}  // namespace rlmba::bindings
