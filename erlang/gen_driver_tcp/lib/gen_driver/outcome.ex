# SPDX-License-Identifier: MIT
defmodule GenDriver.Outcome do
  @moduledoc false
  # What comes of a call, for those who take no error for an answer.

  alias GenDriver.Error

  @spec value!(GenDriver.result() | :gen_driver_cluster.not_started(), GenDriver.command()) :: term()
  def value!({:ok, value}, _command), do: value
  def value!({:error, _} = error, command), do: raise(Error.of(error, command))
  def value!(other, _command), do: other

  # The parts of a call that `start` makes with these options.
  @spec parts((term() -> term()), GenDriver.command(), GenDriver.stream_options()) :: Enumerable.t()
  def parts(start, command, options) do
    unfolded!(options)
    Stream.resource(fn -> started!(start.(options), command) end, &next(&1, command), &ended/1)
  end

  # Enum.reduce/3 is how it is done here; the answer would be another.
  defp unfolded!(options) do
    if is_list(options) and List.keymember?(options, :fold, 0),
      do: raise(ArgumentError, "a stream takes no option :fold: use Enum.reduce/3")
  end

  defp started!({:ok, stream}, _command), do: stream
  defp started!({:error, _} = error, command), do: raise(Error.of(error, command))

  defp next(stream, command) do
    case :gen_driver_tcp.next_part(stream, :infinity) do
      {:part, part, rest} -> {[part], rest}
      {:done, {:error, _} = error} -> raise Error.of(error, command)
      {:done, _reply} -> {:halt, nil}
    end
  end

  # After an error it has ended already: that it is told so again changes nothing.
  defp ended(nil), do: :ok
  defp ended(stream), do: :gen_driver_tcp.cancel_stream(stream)
end
