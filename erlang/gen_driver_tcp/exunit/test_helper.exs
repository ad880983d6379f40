# SPDX-License-Identifier: MIT
# What the tests call is a real daemon: tests/system/test_elixir.py starts one, and says here where it listens.
defmodule Daemon do
  def url do
    System.get_env("GENDRIVERD_URL") || raise "GENDRIVERD_URL is not set: tests/system/test_elixir.py starts a daemon"
  end

  # More than anything here takes.
  def patience, do: 30_000

  def none_in_flight(client) do
    case GenDriver.info(client) do
      %{in_flight: 0, connects: 1} -> :ok
      %{connects: 1} -> none_in_flight(client)
    end
  end
end

ExUnit.start()
