# A small site with sign-in, organizations and notes that appear on open pages. docs/rails.md explains it.

ENV["RAILS_ENV"] ||= "production"
require "rails"
require "action_controller/railtie"
require "action_view/railtie"
require "active_record/railtie"

module Notes
  class Application < Rails::Application
    config.root = File.expand_path("..", __dir__)
    config.load_defaults 6.1
    config.eager_load = true
    config.autoload_paths << config.root.join("lib")
    config.secret_key_base = ENV.fetch("NOTES_SESSION_SECRET")
    config.session_store :cookie_store, key: "_notes_session", same_site: :lax
    # The gateway asks over HTTP, under another host name than browsers: let it, with force_ssl and hosts, too.
    asked = ->(request) { request.path == "/orgcast/identity" }
    config.host_authorization = { exclude: asked }
    config.ssl_options = { redirect: { exclude: asked } }
    config.action_dispatch.cookies_serializer = :json
    config.public_file_server.enabled = true
    config.cache_store = :null_store
    config.logger = Logger.new($stderr)
    config.log_level = :warn
  end
end
