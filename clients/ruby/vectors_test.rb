# frozen_string_literal: true

# Makes the calls of ../vectors.json. clients_test.go starts it, with a gateway behind $ORGCAST_TEST_FRONT.

require_relative "orgcast"

VECTORS = JSON.parse(File.read(File.join(__dir__, "..", "vectors.json"), encoding: "UTF-8"))
FAILURES = []

def expect(want, got, about)
  FAILURES << "#{about}:\n  got #{got.inspect}\n  want #{want.inspect}" unless want == got
end

# Returns what the block returned, or the error that it raised.
def outcome
  yield
rescue Orgcast::Error, ArgumentError => e
  e
end

VECTORS["user_group"].each { |v| expect(v["group"], Orgcast.user_group(v["user"]), "user_group of #{v['user']}") }
expect(ArgumentError, outcome { Orgcast.user_group("") }.class, "empty user")
sign = ->(v) { outcome { Orgcast.sign_group(*v.values_at("key", "organization", "group", "expires")) } }
VECTORS["sign_group"].each { |v| expect(v["token"], sign.call(v), "sign_group of #{v}") }
VECTORS["sign_group_refused"].each { |v| expect(ArgumentError, sign.call(v).class, "sign_group of #{v}") }
expect(ArgumentError, outcome { Orgcast.new("http://127.0.0.1:1", "") }.class, "empty key")

def make(v)
  through = v.fetch("through", "direct")
  url = through == "nowhere" ? "http://127.0.0.1:1" : "#{ENV.fetch('ORGCAST_TEST_FRONT')}/#{through}"
  client = Orgcast.new(url, v.fetch("key", ENV.fetch("ORGCAST_TEST_KEY")), timeout: through == "silent" ? 0.3 : 60)
  group = v["user"] ? Orgcast.user_group(v["user"]) : v["group"]
  key = v["idempotency_key"]
  case v["call"]
  when "publish" then client.publish(v["organization"], group, v["event"])
  when "record" then client.record(v["organization"], group, v["event"], **(key ? { idempotency_key: key } : {}))
  when "revoke" then client.revoke(v["message"])
  else raise "unknown call #{v['call']}"
  end
end

ids = {} # label → organization and position
VECTORS["calls"].each do |v|
  got = outcome { make(v) }
  if v["error"]
    expect(v["error"].transform_keys(&:to_sym), got.is_a?(Orgcast::Error) ? { status: got.status, code: got.code } : got, v)
    next
  end
  want = v["want"].is_a?(Hash) ? v["want"].transform_keys(&:to_sym) : v["want"]
  if want.is_a?(Hash) && want[:id] && got.is_a?(Hash)
    label = want[:id]
    place = [v["organization"], got[:id]]
    unless ids[label]
      expect(false, ids.value?(place) || got[:id] !~ /\A\d+-\d+\z/, v)
      ids[label] = place
    end
    want[:id] = ids[label].last
  end
  expect(want, got, v)
end

abort(FAILURES.join("\n")) unless FAILURES.empty?
