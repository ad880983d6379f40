# SPDX-License-Identifier: MIT
defmodule GenDriver.Name do
  @moduledoc false
  # The option `:name`, as GenServer takes it, for modules that want it before the options, as gen_server does.

  @spec start_link(module(), keyword()) :: {:ok, pid()} | {:error, term()}
  def start_link(module, options) do
    case Keyword.pop(options, :name) do
      {nil, rest} -> module.start_link(rest)
      {name, rest} -> module.start_link(server_name(name), rest)
    end
  end

  defp server_name(name) when is_atom(name), do: {:local, name}
  defp server_name({:global, _} = name), do: name
  defp server_name({:via, module, _} = name) when is_atom(module), do: name

  defp server_name(other) do
    raise ArgumentError, "expected :name to be an atom, {:global, term} or {:via, module, term}, got: #{inspect(other)}"
  end

  @spec id(module(), keyword()) :: {module(), term()}
  def id(module, options), do: {module, options[:name] || options[:instance]}
end
