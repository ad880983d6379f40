# SPDX-License-Identifier: MIT
defmodule GenDriver.Error do
  @moduledoc """
  A call that came to nothing, raised by `GenDriver.call!/4` and `GenDriver.stream/4` and their like.

    * `:source` says who speaks: `:service` (gendriverd, or the client on its behalf), `:driver`, `:client`;
    * `:reason` is what it says: of `{:error, {:failed, reason}}` the reason, of any other `{:error, reason}` the same;
    * `:command` is the command that was called;
    * `:retryable` tells whether the call certainly never started, as `GenDriver.retryable?/1`.

  For example:

      try do
        GenDriver.call!(Sum, :sum, numbers)
      rescue
        error in GenDriver.Error ->
          if error.retryable, do: later(numbers), else: reraise(error, __STACKTRACE__)
      end

  A driver whose own replies look like `{:error, {:failed, atom}}` is taken for the service.
  """

  @type t :: %__MODULE__{
          reason: term(),
          source: :service | :driver | :client,
          command: GenDriver.command(),
          retryable: boolean()
        }

  @enforce_keys [:reason, :source, :command]
  defexception [:reason, :source, :command, retryable: false]

  @doc """
  The error that a result is.

      GenDriver.Error.of({:error, {:failed, :crashed}}, :sum)
  """
  @spec of({:error, term()}, GenDriver.command()) :: t
  def of({:error, {:failed, reason}} = result, command) when is_atom(reason) do
    %__MODULE__{reason: reason, source: :service, command: command, retryable: GenDriver.retryable?(result)}
  end

  def of({:error, {:unknown_command, _} = reason}, command),
    do: %__MODULE__{reason: reason, source: :client, command: command}

  def of({:error, {:not_started, :gen_driver_tcp} = reason}, command),
    do: %__MODULE__{reason: reason, source: :client, command: command}

  def of({:error, reason}, command), do: %__MODULE__{reason: reason, source: :driver, command: command}

  @impl true
  @spec message(t) :: String.t()
  def message(%{source: :service} = error) do
    "command #{inspect(error.command)} failed: #{inspect(error.reason)}, " <>
      if(error.retryable, do: "it never started", else: "it may have run")
  end

  def message(%{reason: {:unknown_command, name}, source: :client}),
    do: "the driver declares no command #{inspect(name)}"

  def message(%{reason: {:not_started, application}} = error) do
    "command #{inspect(error.command)} was not called: the application #{inspect(application)} is not started"
  end

  def message(error), do: "command #{inspect(error.command)}: the driver says #{inspect({:error, error.reason})}"
end
