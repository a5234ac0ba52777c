require_relative "config/application"

Notes::Application.initialize!
load Rails.root.join("db.rb")
run Notes::Application
