require "digest"
require_relative "../../../clients/ruby/orgcast"

# The private listener of the gateway.
module Gateway
  CLIENT = Orgcast.new(ENV.fetch("NOTES_GATEWAY"), ENV.fetch("NOTES_PUBLISH_KEY"), timeout: 10)

  # The name of a session for the gateway. It does not open the session.
  def self.session_name(id)
    Digest::SHA256.hexdigest("orgcast:#{id}")
  end

  # Closes sockets at once. If the gateway cannot be reached, the user must not fail for it.
  def self.announce(message)
    CLIENT.revoke(message)
  rescue Orgcast::Error => e
    Rails.logger.error("announce: #{e.message}")
  end
end
