# SPDX-License-Identifier: MIT
# What is public has words and a type.
defmodule GenDriver.DocumentedTest do
  use ExUnit.Case, async: true

  for module <- [GenDriver, GenDriver.Error, GenDriver.Pool, GenDriver.Cluster] do
    test "each function of #{inspect(module)} is documented and has a spec" do
      {:docs_v1, _, :elixir, _, %{"en" => _}, _, entries} = Code.fetch_docs(unquote(module))
      # Hidden: a callback, and its behaviour says what it is for.
      functions = for {{:function, name, arity}, _, _, doc, _} <- entries, doc != :hidden, do: {{name, arity}, doc}
      assert functions != []

      assert for({function, doc} <- functions, not is_map_key(doc, "en"), do: function) == []

      {:ok, specs} = Code.Typespec.fetch_specs(unquote(module))
      typed = for {function, _} <- specs, do: function
      assert for({function, _} <- functions, function not in typed, do: function) == []
    end
  end
end
