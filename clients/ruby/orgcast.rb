# frozen_string_literal: true

# Publish to Orgcast from Ruby 3.0 or newer, without gems: copy this file.

require "digest"
require "json"
require "net/http"
require "openssl"
require "securerandom"
require "uri"

class Orgcast
  # A call that was refused or failed. code is one of the codes of docs/protocol.md, "unreachable" if no answer came, or
  # "bad_answer" if the answer is not Orgcast's. status is the HTTP status, 0 without an answer.
  class Error < StandardError
    attr_reader :status, :code

    def initialize(call, status, code)
      super("orgcast #{call}: #{code} (status #{status})")
      @status = status
      @code = code
    end
  end

  # How often record and revoke are tried. Repeating them does no harm.
  ATTEMPTS = 3
  ID = /\A[A-Za-z0-9_-]{1,64}\z/
  GROUP = /\A[A-Za-z0-9_.-]{1,100}\z/
  DONE = %w[published revoked announced].freeze

  # url is the gateway's private listener, key its --publish-key, timeout the seconds that each attempt waits for the gateway.
  def initialize(url, key, timeout: 5)
    raise ArgumentError, "orgcast: the key is empty" if key.to_s.empty?

    @url = URI.parse(url)
    @path = @url.path.chomp("/")
    @headers = { "Authorization" => "Bearer #{key}", "Content-Type" => "application/json" }
    @timeout = timeout
  end

  # Sends an event to the members of a group who are connected now. Returns {nodes:}. It is tried once.
  def publish(organization, group, event)
    result = post("publish", { organization_id: organization, group: group, event: event }, 1)
    { nodes: result["nodes"] }
  end

  # The same, and keeps the event in the group's history. Returns {id:, nodes:, repeated:}; repeated says that the
  # idempotency key has been used before and nothing was published.
  def record(organization, group, event, idempotency_key: SecureRandom.uuid)
    publication = { organization_id: organization, group: group, event: event, record: true, idempotency_key: idempotency_key }
    result = post("publish", publication, ATTEMPTS)
    { id: result["id"], nodes: result.fetch("nodes", 0), repeated: result.fetch("repeated", false) }
  end

  # Ends the right to be connected: {type: "user.disabled", user_id: "ada"}. Returns "revoked" or "announced".
  def revoke(message)
    post("revoke", message, ATTEMPTS)["status"]
  end

  # The name of a user's own group.
  def self.user_group(user)
    raise ArgumentError, "orgcast: the user id is empty" if user.empty?
    return "user.#{user}" if ID.match?(user)

    "user..#{[Digest::SHA256.digest(user)].pack('m0').tr('+/', '-_').delete('=')}"
  end

  # The token with which a page may subscribe to a group until expires, in Unix seconds. key is --signing-key.
  def self.sign_group(key, organization, group, expires)
    raise ArgumentError, "orgcast: the signing key must have at least 32 bytes" if key.bytesize < 32
    raise ArgumentError, "orgcast: invalid organization" unless ID.match?(organization)
    raise ArgumentError, "orgcast: invalid group" unless GROUP.match?(group)
    raise ArgumentError, "orgcast: expires must be Unix seconds" unless expires.is_a?(Integer) && expires.between?(1, 99_999_999_999)

    text = "orgcast.v1.group\n#{organization}\n#{group}\n#{expires}"
    "#{expires}.#{OpenSSL::HMAC.hexdigest('SHA256', key, text)}"
  end

  private

  def post(call, body, attempts)
    text = JSON.generate(body)
    attempt = 1
    begin
      attempt_once(call, text)
    rescue Error => e
      raise if attempt >= attempts || e.status.between?(1, 499)

      sleep(0.1 * 2**attempt * (0.5 + rand))
      attempt += 1
      retry
    end
  end

  def attempt_once(call, body)
    response = send_request("#{@path}/v1/#{call}", body)
    raise Error.new(call, 0, "unreachable") unless response

    status = response.code.to_i
    result = result_of(response.body)
    return result if status == 200 && DONE.include?(result["status"])

    raise Error.new(call, status, result["code"].is_a?(String) ? result["code"] : "bad_answer")
  end

  # Returns nil if no answer came.
  def send_request(path, body)
    http = Net::HTTP.new(@url.host, @url.port, nil) # nil: no proxy from the environment
    http.use_ssl = @url.scheme == "https"
    http.open_timeout = http.read_timeout = http.write_timeout = @timeout
    http.max_retries = 0
    http.start { http.post(path, body, @headers) }
  rescue SystemCallError, SocketError, IOError, Timeout::Error, OpenSSL::SSL::SSLError, Net::ProtocolError, Net::HTTPBadResponse
    nil
  end

  # The one result of an answer, {} if it has none.
  def result_of(text)
    answer = JSON.parse(text)
    answer = answer["results"].first if answer.is_a?(Hash) && answer["results"].is_a?(Array)
    answer.is_a?(Hash) ? answer : {}
  rescue JSON::ParserError, TypeError
    {}
  end
end
