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

  # What each is told with; docs/protocol.md has the long form.
  @words %{
    overloaded: "a bound on what waits is reached",
    expired: "its time passed while it waited",
    cancelled: "it was cancelled",
    draining: "the service is stopping",
    unavailable: "there is no connection to the instance",
    not_run: "the driver's host died first",
    bad_request: "its command or params are not taken",
    quarantined: "it has killed its host before",
    forbidden: "the key does not allow its command",
    crashed: "the driver crashed in it",
    interrupted: "the driver's host died before its answer was out",
    timeout: "there was no answer in time",
    bad_reply: "the driver's reply is no valid term",
    undecodable: "the reply is no term that this node takes",
    disconnected: "the connection ended before its answer"
  }

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
    "command #{inspect(error.command)} failed: #{words(error.reason)}" <>
      if(error.retryable, do: "; it never started", else: "; it may have run")
  end

  def message(%{reason: {:unknown_command, name}, source: :client}),
    do: "the driver declares no command #{inspect(name)}"

  def message(%{reason: {:not_started, application}} = error) do
    "command #{inspect(error.command)} was not called: the application #{inspect(application)} is not started"
  end

  def message(error), do: "command #{inspect(error.command)}: the driver says #{inspect({:error, error.reason})}"

  defp words(reason) do
    case @words do
      %{^reason => words} -> "#{reason}, #{words}"
      _ -> inspect(reason)
    end
  end
end
