#include "core.hpp"
#include "output.hpp"
#include "rlmba/deepfool_distance.hpp"

namespace rlmba::bindings {
namespace {

template <class T>
std::int64_t deepfool_distance(const Array<T>& logits, const Array<T>& weight, Array<double>& norms,
                               Array<double>& distances, Array<std::int64_t>& classes) {
  const auto x = matrix_view(logits);
  const auto w = matrix_view(weight);
  if (x.cols < 1 || w.rows != x.cols) throw std::invalid_argument("expected a weight [C, D]");
  const MatrixView<double> table{output(norms, x.cols * x.cols), x.cols, x.cols, x.cols};
  const MatrixView<const double> read{table.data, x.cols, x.cols, x.cols};
  double* d = output(distances, x.rows);
  std::int64_t* k = output(classes, x.rows);
  py::gil_scoped_release release;
  RLMBA_DISPATCH(pair_norms, w, table);
  return RLMBA_DISPATCH(deepfool_distance, x, read, d, k);
}

template <class T>
void define(py::module_& m) {
  m.def("deepfool_distance", &deepfool_distance<T>, py::arg("logits").noconvert(),
        py::arg("weight").noconvert(), py::arg("norms").noconvert(),
        py::arg("distances").noconvert(), py::arg("classes").noconvert());
}

}  // namespace

void register_deepfool_distance(py::module_& m) {
  define<float>(m);
  define<double>(m);
}

}  // namespace rlmba::bindings
