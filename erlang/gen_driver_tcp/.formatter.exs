# SPDX-License-Identifier: MIT
[
  inputs: ["mix.exs", ".formatter.exs", "{lib,exunit}/**/*.{ex,exs}"],
  line_length: 120
]
